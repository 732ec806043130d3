"""An agent with the tiny trainer as a process of its own, which can be made to stop at a chosen point.

run_agent.py HOME NUMBER [POINT MARKER]: at POINT it writes MARKER and waits to be killed. Points: training, upload
(the first part is delivered, the second not), signed (sealed and signed, nothing sent), vote, opening (the answer is
on the disk, not sent).
"""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "interop"))

from rich.console import Console
from tiny_trainer import TinyTrainer

from participant import logs, setup
from participant.agent import Agent, only_one
from participant.client import Client
from participant.progress import Lines
from participant.settings import Home

POINT, MARKER = (sys.argv[3], Path(sys.argv[4])) if len(sys.argv) > 3 else ("", Path())


def reach(point: str) -> None:
    if point == POINT:
        MARKER.touch()
        threading.Event().wait()


class StoppingClient(Client):
    def put_part(self, plan: Any, kind: str, number: int, data: bytes) -> None:
        reach("signed")
        if number == 1:
            reach("upload")
        super().put_part(plan, kind, number, data)

    def vote(self, plan: Any, vote: Any) -> None:
        reach("vote")
        super().vote(plan, vote)

    def open(self, plan: Any, opening: Any) -> None:
        reach("opening")
        super().open(plan, opening)


def main() -> None:
    logs.set_up(Console(stderr=True))
    home, trainer = Home(Path(sys.argv[1])), TinyTrainer(int(sys.argv[2]), lambda number: reach("training"))
    agent = Agent()
    with (
        only_one(home.lock),
        setup.open_site(home, Lines(), pause=agent.pause, make_trainer=lambda study: trainer) as site,
    ):
        client = StoppingClient(site.client.session, site.client.witness)
        agent.run(replace(site, client=client), "finished")


if __name__ == "__main__":
    main()
