"""The agent and plans: what it contributes to, what it refuses, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import lying_coordinator
import pytest
from lying_coordinator import IDENTITIES, ME, NORTH, SOUTH, STRANGER, Coordinator, Opened, Trainer, ledgered, refusals

from crypto.canonical import sha256
from crypto.manifest import Manifest
from participant.settings import Home

coordinator, home, start = lying_coordinator.coordinator, lying_coordinator.home, lying_coordinator.start


def test_a_contribution_is_delivered(coordinator: Coordinator, start: Opened, home: Home) -> None:
    coordinator.deal()
    plan = coordinator.make_plan()
    start().look()
    (manifest,) = coordinator.messages("PUT .*/manifest", Manifest)
    assert manifest.plan == plan.digest
    assert manifest.parts == tuple(map(sha256, coordinator.bodies(r"PUT .*/1/1/parts/\d")))
    assert refusals(coordinator) == []
    assert [line["what"] for line in ledgered(home, "sent") if line.get("round") == 1] == [
        "part",
        "key-part",
        "manifest",
    ]


def test_a_restart_sends_the_same_bytes(coordinator: Coordinator, start: Opened) -> None:
    coordinator.deal()
    coordinator.make_plan()
    coordinator.answers["PUT .*/manifest"] = httpx.Response(409, json={"code": "parts-missing", "detail": "again"})
    start().look()
    del coordinator.answers["PUT .*/manifest"]
    start().look()
    first, second = coordinator.bodies("PUT .*/manifest")
    assert first == second
    first, second = coordinator.bodies("PUT .*/parts/0")
    assert first == second


def changed_roster(coordinator: Coordinator) -> None:
    coordinator.deal()
    coordinator.members = (ME, NORTH, SOUTH, STRANGER)
    coordinator.make_plan()
    coordinator.members = (ME, NORTH, SOUTH)  # the stranger is on no roster that anybody could have approved


def my_keys_replaced(coordinator: Coordinator) -> None:
    coordinator.deal()
    coordinator.identities[ME] = IDENTITIES[STRANGER]
    coordinator.make_plan()


def planned(**changes: Any) -> Callable[[Coordinator], None]:
    def make(coordinator: Coordinator) -> None:
        coordinator.deal()
        coordinator.make_plan(**changes)

    return make


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (changed_roster, "peer-not-approved"),
        (my_keys_replaced, "own-keys-differ"),
        (planned(minimum_contributors=2), "minimum-too-low"),
        (planned(rate=1.5), "rate-out-of-range"),
        (planned(recipe="1" * 64), "plan-of-other-study"),
        (planned(study=UUID(int=51)), "malformed"),
        (planned(roster="1" * 64), "wrong-digest"),
        (planned(bounds=(1.0,)), "plan-misfit"),
        (planned(base_model="1" * 64), "wrong-digest"),
    ],
)
def test_plans_that_are_refused(coordinator: Coordinator, start: Opened, home: Home, make: Any, code: str) -> None:
    make(coordinator)
    loop = start()
    loop.look()
    loop.look()
    assert refusals(coordinator) == [("plan", code)], "once, and in words for both operators"
    assert ledgered(home, "refusal")[0]["code"] == code
    assert coordinator.bodies("PUT .*/(parts|manifest)") == []


def test_another_plan_for_an_accepted_attempt(coordinator: Coordinator, start: Opened) -> None:
    coordinator.deal()
    coordinator.make_plan()
    loop = start()
    loop.look()
    coordinator.make_plan(n_max=7)
    loop.look()
    assert refusals(coordinator) == [("plan", "plan-differs")]
    assert len(coordinator.bodies("PUT .*/manifest")) == 1


def test_failed_training_is_told_without_its_details(coordinator: Coordinator, start: Opened, home: Home) -> None:
    coordinator.deal()
    coordinator.make_plan()
    loop = start()
    trainer = Trainer()
    trainer.error = ValueError("patient Smith's file is broken")
    loop.desk._trainer = trainer
    loop.look()
    loop.look()
    assert refusals(coordinator) == [("plan", "training-failed")]
    assert "Smith" not in str(coordinator.sent) + home.ledger.read_text()


def test_what_fails_as_its_round_is_cleared_away_is_no_refusal(
    coordinator: Coordinator, start: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sealed of a stopped study goes at once, whether something is still written there or not."""
    coordinator.deal()
    coordinator.make_plan()
    loop = start()
    sealed = type(loop.desk.site.sealed)

    def cleared_away(*_: object, **__: object) -> None:
        assert loop._job is not None
        loop._job.cancel()
        raise FileNotFoundError("3-1.tmp/parts-0")

    monkeypatch.setattr(sealed, "write", cleared_away)
    loop.look()
    assert refusals(coordinator) == []


def test_too_late_is_said_and_the_study_goes_on(coordinator: Coordinator, start: Opened, home: Home) -> None:
    coordinator.deal()
    coordinator.make_plan()
    closed = httpx.Response(409, json={"code": "round-closed", "detail": "closed at noon"})
    coordinator.answers["PUT .*/parts/0"] = closed
    loop = start()
    loop.look()
    assert ledgered(home, "not-taken")[0]["code"] == "round-closed"
    del coordinator.answers["PUT .*/parts/0"]
    coordinator.make_plan(attempt=2)
    loop.look()
    assert len(coordinator.bodies("PUT .*/1/2/manifest")) == 1
