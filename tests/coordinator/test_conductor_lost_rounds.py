"""Attempts that fail before and after their ballot, and openers that are silent or wrong."""

from __future__ import annotations

from uuid import UUID

import conducted_federation
import pytest
from conducted_federation import COLLECT, OPEN, SITES, VOTE, to_opening

from coordinator.store.rounds import LOSSES
from coordinator.store.tables import Opening

federation = conducted_federation.federation


def test_too_few_at_the_deadline_leave_the_model_and_start_a_new_attempt(federation) -> None:
    federation.advance()
    first = federation.study().current_model
    federation.contribute(SITES[1])
    federation.refuse(SITES[2], "plan", "hospital-1 is not approved here")
    federation.clock.advance(COLLECT - 1)
    federation.advance()
    assert federation.newest().state == "collecting"
    federation.clock.advance(2)
    federation.advance()
    failed, again = federation.rounds()
    assert failed.reason == (
        "1 of at least 2 contributions by the deadline; missing: "
        "hospital-1, hospital-3 (hospital-1 is not approved here)"
    )
    assert (failed.state, failed.after_ballot, failed.model) == ("failed", False, None)
    assert (again.number, again.attempt, again.state) == (1, 2, "collecting")
    assert federation.study().current_model == first == again.base_model
    assert federation.left_over() == []
    federation.contribute(SITES[0], SITES[2])
    federation.clock.advance(COLLECT + 1)
    federation.advance()
    federation.vote(SITES[0], SITES[1])
    federation.advance()
    federation.open()
    federation.advance()
    done = federation.rounds()[1]
    assert done.state == "complete"
    assert [entry["message"]["site"] for entry in done.ballot["manifests"]] == [str(SITES[0]), str(SITES[2])]
    assert federation.study().completed == 1


def test_a_malformed_contribution_fails_the_round_and_the_next_number_starts_from_the_same_model(federation) -> None:
    to_opening(federation, spoil=lambda body: bytes(len(body)))
    for _ in SITES:
        federation.open()
        federation.advance()
    failed, following = federation.rounds()
    assert failed.after_ballot
    assert failed.reason.startswith("nobody opened the sum; asked: hospital-")
    assert failed.reason.count("canaries did not open to zero") == 3
    assert (following.number, following.attempt) == (2, 1)
    assert following.base_model == failed.base_model == federation.study().current_model
    assert federation.study().losses == 1
    assert federation.left_over() == []


@pytest.mark.parametrize(("change", "said"), [(1, "canaries"), (-1000, "stays within 96 of zero")])
def test_after_a_wrong_opening_another_site_is_asked(federation, change, said) -> None:
    to_opening(federation)
    first = federation.newest().openers[0]["site"]
    federation.open(change=change)
    federation.advance()
    row = federation.newest()
    assert (row.state, len(row.openers)) == ("opening", 2)
    rejected = federation.store.read("opening", lambda s: s.get_one(Opening, (row.id, UUID(first))))
    assert said in rejected.rejection
    assert row.openers[1]["site"] != first
    federation.open()
    federation.advance()
    assert federation.rounds()[0].state == "complete"
    assert federation.study().completed == 1


def test_a_silent_opener_is_passed_over_and_its_late_answer_still_counts(federation) -> None:
    to_opening(federation)
    first = UUID(federation.newest().openers[0]["site"])
    federation.clock.advance(OPEN / 3)
    federation.advance()
    assert len(federation.newest().openers) == 2
    federation.open(first)
    federation.advance()
    assert federation.rounds()[0].state == "complete"


def test_missing_votes_end_the_round_number(federation) -> None:
    federation.advance()
    federation.contribute()
    federation.advance()
    federation.vote(SITES[0])
    federation.advance()
    assert federation.newest().openers == []
    federation.clock.advance(VOTE)
    federation.advance()
    failed, following = federation.rounds()
    assert failed.reason == "1 of at least 2 votes for the ballot; missing: hospital-2, hospital-3"
    assert (following.number, following.attempt) == (2, 1)


def test_a_study_that_loses_round_after_round_is_paused_with_the_reason(federation) -> None:
    for _ in range(LOSSES):
        federation.advance()
        federation.contribute()
        federation.advance()
        for site in SITES:
            federation.refuse(site, "ballot", "I was never asked")
        federation.advance()
    study = federation.study()
    assert (study.state, study.losses) == ("paused", 0)
    assert "3 rounds in a row failed after their ballot was shown" in study.reason
    assert "I was never asked" in study.reason
    assert [row.number for row in federation.rounds()] == [1, 2, 3]
    assert not federation.conductor.advance_once()
