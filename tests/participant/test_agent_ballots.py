"""The agent and ballots: when it votes, when it opens, and what it neither votes for nor opens."""

from __future__ import annotations

import lying_coordinator
import numpy as np
import pytest
from lying_coordinator import (
    IDENTITIES,
    LAYOUT,
    ME,
    NORTH,
    SOUTH,
    STRANGER,
    Contributed,
    Coordinator,
    Opened,
    ledgered,
    refusals,
)

from crypto.manifest import Ballot, Opening, Vote
from crypto.schemes import scheme
from participant.settings import Home

coordinator, home = lying_coordinator.coordinator, lying_coordinator.home
start, contributed = lying_coordinator.start, lying_coordinator.contributed


def test_a_ballot_is_voted_on_and_opened(coordinator: Coordinator, contributed: Contributed, home: Home) -> None:
    loop, dealt = contributed
    ballot = coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    loop.look()
    (vote,) = coordinator.messages("PUT .*/vote", Vote)
    assert vote.ballot == ballot.digest
    coordinator.vote_of(NORTH, ballot)
    coordinator.task["openers"] = [str(ME)]
    loop.look()
    (opening,) = coordinator.messages("PUT .*/opening", Opening)
    assert coordinator.plan is not None
    (mine,) = coordinator.bodies("PUT .*/1/1/parts/0")
    adder = scheme("lwe-ckks").adder(coordinator.plan, LAYOUT, 0)
    for part in (mine, *coordinator.parts_of[NORTH], *coordinator.parts_of[SOUTH]):
        adder.add(part)
    totals = [adder.total()]
    revealed = scheme("lwe-ckks").reveal(coordinator.plan, LAYOUT, totals, opening.secret_sum, 3)
    assert revealed.mean is not None
    assert np.abs(revealed.mean[:600] - (0.25 + 0.5 + 0.5) / 3).max() < 1e-6
    assert revealed.counts.recipe == (27,)


def test_an_answer_is_given_once_and_the_same_ever_after(
    coordinator: Coordinator, contributed: Contributed, start: Opened
) -> None:
    loop, dealt = contributed
    ballot = coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    coordinator.vote_of(NORTH, ballot)
    coordinator.task["openers"] = [str(ME)]
    loop.look()
    coordinator.key_parts = {}  # it cannot compute it again
    coordinator.votes.clear()
    coordinator.vote_of(NORTH, ballot)
    coordinator.task["voted"] = False
    start().look()
    first, second = coordinator.bodies("PUT .*/opening")
    assert first == second
    first, second = coordinator.bodies("PUT .*/vote")
    assert first == second


def test_two_votes_of_four_are_not_more_than_half(coordinator: Coordinator, start: Opened) -> None:
    coordinator.members = (ME, NORTH, SOUTH, STRANGER)
    dealt = coordinator.deal(members=coordinator.members)
    coordinator.make_plan()
    loop = start()
    loop.look()
    ballot = coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    coordinator.vote_of(NORTH, ballot)
    coordinator.task["openers"] = [str(ME)]
    loop.look()
    assert len(coordinator.votes) == 2
    assert coordinator.bodies("PUT .*/opening") == []
    coordinator.vote_of(STRANGER, ballot)
    loop.look()
    assert len(coordinator.bodies("PUT .*/opening")) == 1


@pytest.mark.parametrize("forgery", ["signature", "twice", "other ballot"])
def test_forged_votes_open_nothing(coordinator: Coordinator, contributed: Contributed, forgery: str) -> None:
    loop, dealt = contributed
    ballot = coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    match forgery:
        case "signature":
            coordinator.vote_of(NORTH, ballot, IDENTITIES[STRANGER])
        case "twice":
            coordinator.votes.append(IDENTITIES[ME].sign(Vote(ballot=ballot.digest, site=ME)))
        case _:
            other = Ballot(plan=ballot.plan, manifests=ballot.manifests[1:])
            coordinator.vote_of(NORTH, other)
    coordinator.task["openers"] = [str(ME)]
    loop.look()
    assert coordinator.bodies("PUT .*/opening") == []
    assert [step for step, _ in refusals(coordinator)] == ["opening"]


def test_a_second_ballot_of_an_attempt_gets_no_vote(coordinator: Coordinator, start: Opened) -> None:
    coordinator.members = (ME, NORTH, SOUTH, STRANGER)
    dealt = coordinator.deal(members=coordinator.members)
    coordinator.make_plan()
    loop = start()
    loop.look()
    coordinator.open_ballot(dealt, ME, NORTH, SOUTH, STRANGER)
    loop.look()
    coordinator.open_ballot(dealt, NORTH, SOUTH, STRANGER)
    coordinator.task["voted"] = False
    loop.look()
    assert len(coordinator.bodies("PUT .*/vote")) == 1
    assert refusals(coordinator) == [("ballot", "ballot-differs")]


def test_a_ballot_below_the_minimum_gets_no_vote(coordinator: Coordinator, contributed: Contributed) -> None:
    loop, dealt = contributed
    coordinator.open_ballot(dealt, ME, NORTH)
    loop.look()
    assert coordinator.bodies("PUT .*/vote") == []
    assert refusals(coordinator) == [("ballot", "malformed")]


def test_a_manifest_signed_by_another_gets_no_vote(coordinator: Coordinator, contributed: Contributed) -> None:
    loop, dealt = contributed
    coordinator.identities[SOUTH] = IDENTITIES[STRANGER]
    coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    coordinator.identities[SOUTH] = IDENTITIES[SOUTH]
    loop.look()
    assert coordinator.bodies("PUT .*/vote") == []
    assert refusals(coordinator) == [("ballot", "invalid-signature")]


def test_a_ballot_without_this_sites_manifest_is_noted(coordinator: Coordinator, start: Opened, home: Home) -> None:
    coordinator.members = (ME, NORTH, SOUTH, STRANGER)
    dealt = coordinator.deal(members=coordinator.members)
    coordinator.make_plan()
    loop = start()
    loop.look()
    coordinator.open_ballot(dealt, NORTH, SOUTH, STRANGER)
    loop.look()
    assert len(coordinator.bodies("PUT .*/vote")) == 1
    assert ledgered(home, "ballot")[0]["own_missing"] is True


def test_swapped_key_parts_are_refused(coordinator: Coordinator, contributed: Contributed) -> None:
    loop, dealt = contributed
    ballot = coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    coordinator.vote_of(NORTH, ballot)
    coordinator.task["openers"] = [str(ME)]
    coordinator.key_parts[SOUTH] = coordinator.key_parts[NORTH]
    loop.look()
    assert coordinator.bodies("PUT .*/opening") == []
    assert refusals(coordinator) == [("opening", "wrong-digest")]


def test_after_a_vote_further_attempts_of_the_round_are_refused(
    coordinator: Coordinator, contributed: Contributed
) -> None:
    loop, dealt = contributed
    coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    loop.look()
    coordinator.make_plan(attempt=2)
    loop.look()
    assert refusals(coordinator) == [("plan", "round-over")]
    coordinator.make_plan(round=2)
    loop.look()
    assert len(coordinator.bodies("PUT .*/2/1/manifest")) == 1
