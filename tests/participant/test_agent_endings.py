"""What the agent keeps of an attempt that has ended, complete or failed, seen or missed."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import lying_coordinator
import pytest
from lying_coordinator import ME, NORTH, SOUTH, STUDY, Contributed, Coordinator

from crypto.canonical import sha256
from participant.settings import Home

coordinator, home = lying_coordinator.coordinator, lying_coordinator.home
start, contributed = lying_coordinator.start, lying_coordinator.contributed


def ended(coordinator: Coordinator, state: str, *contributors: UUID, round: int = 1) -> None:  # noqa: A002
    last = {"round": round, "attempt": 1, "state": state, "reason": None, "model": sha256(coordinator.model)}
    coordinator.task = {"last": {**last, "contributors": [str(site) for site in contributors]}}


@pytest.mark.parametrize(
    ("state", "contributors", "kept"),
    [("complete", (ME, NORTH, SOUTH), True), ("complete", (NORTH, SOUTH), False), ("failed", (ME, NORTH), False)],
)
def test_a_residual_and_local_state_count_with_their_attempt(
    coordinator: Coordinator, contributed: Contributed, home: Home, state: str, contributors: Any, kept: bool
) -> None:
    loop, _ = contributed
    ended(coordinator, state, *contributors)
    loop.look()
    assert (home.residuals / f"{STUDY}.npy").exists() is kept
    states = [file.read_bytes() for file in home.local_state(STUDY).glob("*")]
    assert states == ([b"what stays here"] if kept else [])
    assert not list(home.sealed.glob("*/*"))
    (line,) = [json.loads(line) for line in home.timings.read_text().splitlines()]
    assert (line["round"], line["train_seconds"], line["open_seconds"]) == (1, 0.5, None)


def test_a_site_that_was_away_asks_how_its_attempt_ended(
    coordinator: Coordinator, contributed: Contributed, home: Home
) -> None:
    loop, _ = contributed
    row = {"round": 1, "attempt": 1, "state": "complete", "reason": None, "contributors": [str(ME), str(NORTH)]}
    coordinator.rounds = [row]
    ended(coordinator, "complete", NORTH, SOUTH, round=3)
    loop.look()
    assert (home.residuals / f"{STUDY}.npy").exists()
