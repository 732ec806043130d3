"""An agent with the tiny trainer as a process of its own, killed at its moments.

run_mortal_agent.py HOME NUMBER FOLDER: FOLDER holds moments.json, and what the moments need.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "interop"))

from moments import Moment, Mortal
from rich.console import Console
from tiny_trainer import TinyTrainer

from participant import logs, setup
from participant.agent import Agent, only_one
from participant.progress import Lines
from participant.sealed import SealedStore
from participant.settings import Home
from participant.steps import ballots, contribute


def endanger(number: int, folder: Path) -> None:
    """Put the phases of this site, the agent's own functions, under watch."""
    moments = [Moment(*entry) for entry in json.loads((folder / "moments.json").read_text())]
    mortal = Mortal([moment for moment in moments if moment.site in (0, number)], folder)
    for module, name, phase in (
        (contribute, "_train", "training"),
        (SealedStore, "write", "sealing"),
        (contribute, "_upload", "uploading"),
        (ballots, "_checked", "ballot"),
        (ballots, "_vote", "voting"),
        (ballots, "_open", "opening"),
    ):
        watched = mortal.phase(phase, getattr(module, name), lambda _, plan, *__: int(plan.round))
        setattr(module, name, watched)


def main() -> None:
    home, number, folder = Home(Path(sys.argv[1])), int(sys.argv[2]), Path(sys.argv[3])
    endanger(number, folder)
    logs.set_up(Console(stderr=True))
    agent, trainer = Agent(), TinyTrainer(number)
    with (
        only_one(home.lock),
        setup.open_site(home, Lines(), pause=agent.pause, make_trainer=lambda study: trainer) as site,
    ):
        agent.run(site, "finished")


if __name__ == "__main__":
    main()
