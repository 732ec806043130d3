"""Makes the modules beside it importable, of which tests/faults uses one too, and has a server and its hospitals."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from participant import agent
from participant.agent import StudyLoop

sys.path.insert(0, str(Path(__file__).parent))

import tiny_federation as tiny


@pytest.fixture(autouse=True)
def _studies_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Often: a test should not wait for what an agent looks for twice a minute."""
    monkeypatch.setattr(agent, "STUDIES_EVERY", 2.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tiny.Server]:
    with tiny.serving(tmp_path / "coordinator") as running:
        yield running


@pytest.fixture
def enrol(server: tiny.Server, tmp_path: Path) -> Iterator[Callable[..., tiny.Hospital]]:
    made: list[tiny.Hospital] = []

    def make(number: int, **trainer: Any) -> tiny.Hospital:
        made.append(tiny.make_hospital(tmp_path, server.url, server.invite(), number, **trainer))
        return made[-1]

    yield make
    for hospital in made:
        hospital.stop()


@pytest.fixture
def study(server: tiny.Server, tmp_path: Path) -> Callable[..., str]:
    def make(**wishes: Any) -> str:
        tiny.save_first_model(tmp_path / "first.safetensors")
        return str(server.create_study(tmp_path / "first.safetensors", **wishes)["id"])

    return make


@pytest.fixture
def look() -> Iterator[Callable[..., list[StudyLoop]]]:
    """`look(*hospitals)` makes their loops, all of them members, and lets each look at its task, one after another.

    Not the agents' threads: a test decides who looks when, and what time it is there.
    """
    with contextlib.ExitStack() as stack:
        loops: dict[Path, StudyLoop] = {}

        def look(*hospitals: tiny.Hospital, clock: float = 0.0, times: int = 1) -> list[StudyLoop]:
            for hospital in hospitals:
                if hospital.home.path not in loops:
                    loops[hospital.home.path] = stack.enter_context(hospital.loop())
            chosen = [loops[hospital.home.path] for hospital in hospitals]
            for loop in chosen * times:
                loop.desk.site = replace(loop.desk.site, clock=lambda: clock)
                loop.look()
            return chosen

        yield look
