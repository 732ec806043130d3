"""A coordinator as a process of its own, which can be made to stop at a chosen point.

run_coordinator.py DATA_DIR PORT [POINT MARKER]: at POINT it writes MARKER and waits to be killed. Points: aggregating
(some parts are added), opening (an answer is there, the model not yet). A dead conductor's lease ends after 2 s.
"""

from __future__ import annotations

import inspect
import sys
import threading
from pathlib import Path
from typing import Any

import uvicorn

from coordinator import aggregation, conductor, logs
from coordinator.app import create_app, open_services
from coordinator.settings import load

POINT, MARKER = (sys.argv[3], Path(sys.argv[4])) if len(sys.argv) > 3 else ("", Path())


def stopping(point: str, work: Any, beats: int) -> Any:
    """The function, stopped for good at its n-th beat if this is the point asked for."""
    signature = inspect.signature(work)

    def stopped(*arguments: Any) -> Any:
        bound = signature.bind(*arguments)
        beat, count = bound.arguments["beat"], 0

        def counted() -> None:
            nonlocal count
            count += 1
            if point == POINT and count == beats:
                MARKER.touch()
                threading.Event().wait()
            beat()

        bound.arguments["beat"] = counted
        return work(*bound.args, **bound.kwargs)

    return stopped


def main() -> None:
    conductor.LEASE_SECONDS = 2.0
    aggregation.add_up = stopping("aggregating", aggregation.add_up, 2)
    aggregation.reveal = stopping("opening", aggregation.reveal, 1)
    services = open_services(load({"data_dir": sys.argv[1], "poll_seconds": 0.05}))
    logs.configure("INFO")
    uvicorn.Server(uvicorn.Config(create_app(services, conduct=True), port=int(sys.argv[2]), log_config=None)).run()


if __name__ == "__main__":
    main()
