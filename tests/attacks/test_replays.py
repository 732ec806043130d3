"""Attacks (d) to (g): more than one ballot, attempt or plan, so that two sums could be subtracted."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import pytest
from forging import signed
from staged import CONTRIBUTIONS, Federation

from crypto import lwe
from crypto.errors import OpeningRefused, TooFewShares
from crypto.identity import Identity
from crypto.manifest import Ballot, ShareOpening, Vote
from crypto.schemes import scheme as scheme_of

if TYPE_CHECKING:
    from conftest import Stage


# --- (d)


def two_ballots(federation: Federation) -> tuple[Ballot, Ballot]:
    """Contributors 1, 2, 3 and 2, 3, 4: the difference of the two sums is that of two sites' updates."""
    contributions = [federation.contribution(seat) for seat in federation.seats]
    return federation.ballot_of(contributions[:3]), federation.ballot_of(contributions[1:])


def test_d_two_ballots_to_two_halves(stage: Stage) -> None:
    federation = stage("lwe-ckks", "collected")
    ballots, halves = two_ballots(federation), (federation.seats[:2], federation.seats[2:])
    start = federation.mark()
    for ballot, half in zip(ballots, halves, strict=True):
        federation.show(ballot, (), *half)
    federation.hostile.answer(r"GET .*/votes$", [])
    federation.look()
    votes = [signed(Vote, each) for each in federation.hostile.sent(r"PUT .*/vote$", since=start)]
    assert [vote.message.ballot for vote in votes] == [ballots[0].digest] * 2 + [ballots[1].digest] * 2
    federation.assert_unopened(start)

    for half, shown in zip(halves, (votes[:2], votes[2:]), strict=True):
        federation.hostile.answer(r"GET .*/votes$", [vote.to_json() for vote in shown], *[seat.id for seat in half])
    federation.look()
    federation.assert_unopened(start)
    federation.assert_refused("votes-missing", "without the votes of 3 of 4 members", since=start)

    federation.hostile.answer(r"GET .*/votes$", [vote.to_json() for vote in votes])
    federation.look()
    federation.assert_unopened(start)
    federation.assert_refused("wrong-digest", "the vote of site .* is for another ballot", since=start)


def test_d_two_ballots_to_two_halves_that_answer(stage: Stage) -> None:
    """Under lwe-shamir the answer is the vote. Neither ballot has as many answers as its polynomials have points."""
    federation = stage("lwe-shamir", "collected")
    plan, roster, ballots = federation.plan, federation.roster, two_ballots(federation)
    start = federation.mark()
    for ballot, half in zip(ballots, (federation.seats[:2], federation.seats[2:]), strict=True):
        federation.show(ballot, (), *half)
    federation.look()
    sent = federation.hostile.sent(r"PUT .*/opening$", since=start)
    answers = [signed(ShareOpening, each).message for each in sent]
    assert [answer.ballot for answer in answers] == [ballots[0].digest] * 2 + [ballots[1].digest] * 2
    for half in (answers[:2], answers[2:]):
        with pytest.raises(TooFewShares):
            scheme_of(plan.scheme).combine(plan, roster, half)
    mixed = [answer.model_copy(update={"ballot": ballots[0].digest}) for answer in answers]
    for three in (mixed[:3], mixed[1:]):
        with pytest.raises(OpeningRefused):
            lwe.check_secret_sum(np.array(scheme_of(plan.scheme).combine(plan, roster, three).values, np.int64), 3)

    federation.show(ballots[1])  # the other half's, for the third answer
    start = federation.mark()
    federation.look()
    federation.assert_unanswered(start, *federation.seats[:2])
    federation.assert_refused(
        "ballot-differs", "another ballot was shown for round 1, attempt 1", *federation.seats[:2]
    )


def test_d_two_ballots_to_one_site(stage: Stage, scheme: str) -> None:
    federation = stage(scheme, "collected")
    first, second = two_ballots(federation)
    federation.show(first)
    federation.look()
    start = federation.mark()
    federation.show(second)
    federation.look()
    federation.assert_unanswered(start)
    federation.assert_refused("ballot-differs", "another ballot was shown for round 1, attempt 1 before", since=start)


def test_d_a_ballot_without_a_majority_is_not_opened(stage: Stage) -> None:
    federation = stage("lwe-ckks", "collected")
    start = federation.mark()
    federation.show(federation.ballot)
    federation.hostile.answer(r"GET .*/votes$", [])
    federation.look()
    federation.assert_unopened(start)
    federation.assert_refused("votes-missing", "without the votes of 3 of 4 members", since=start)


@pytest.mark.parametrize(
    ("forgery", "code", "words"),
    [
        ("a stranger's signature", "invalid-signature", "not by the site with the fingerprint"),
        ("a stranger's vote", "invalid-signature", "is not on the roster, so nothing vouches"),
        ("one vote thrice", "malformed", "a site's vote was handed in twice"),
    ],
)
def test_d_votes_that_are_none(stage: Stage, forgery: str, code: str, words: str) -> None:
    federation, thief = stage("lwe-ckks", "collected"), Identity.generate()
    sites, digest = [seat.id for seat in federation.seats], federation.ballot.digest
    votes = {
        "a stranger's signature": [thief.sign(Vote(ballot=digest, site=site)) for site in sites],
        "a stranger's vote": [thief.sign(Vote(ballot=digest, site=uuid4())) for _ in sites],
        "one vote thrice": [federation.seats[0].identity.sign(Vote(ballot=digest, site=sites[0]))] * 3,
    }[forgery]
    start = federation.mark()
    federation.show(federation.ballot)
    federation.hostile.answer(r"GET .*/votes$", [vote.to_json() for vote in votes])
    federation.look()
    federation.assert_unopened(start)
    federation.assert_refused(code, words, since=start)


# --- (e)


def test_e_an_older_rounds_ballot_for_the_new_plan(stage: Stage, scheme: str) -> None:
    federation = stage(scheme, "collected")
    old, contributions = federation.ballot, [federation.contribution(seat) for seat in federation.seats]
    federation.until_complete()
    federation.until_ballot()
    start = federation.mark()
    federation.show(old, contributions)
    federation.look()
    federation.assert_unanswered(start)
    federation.assert_refused("wrong-digest", "for another plan than the one this site accepted last", since=start)


def test_e_an_older_round_with_its_plan_again(stage: Stage, scheme: str) -> None:
    """Another set of the older round's contributors, whose answer is not kept yet, under the plan accepted then."""
    federation = stage(scheme, "collected")
    old, roster, plan = two_ballots(federation)[0], federation.roster, federation.plan
    contributions = [federation.contribution(seat) for seat in federation.seats]
    federation.until_complete()
    federation.until_ballot()
    start = federation.mark()
    federation.show(old, contributions, plan=plan, roster=roster)
    federation.look()
    federation.assert_unanswered(start)
    code, words = ("ballot-of-other-plan", "is not of the plan accepted last")
    if scheme == "lwe-shamir":  # whose spot check knows which model the next round starts from
        code, words = ("base-model-differs", "the plan starts from another one")
    federation.assert_refused(code, words, since=start)


# --- (f)


def test_f_a_new_attempt_after_the_answers(stage: Stage, scheme: str) -> None:
    federation = stage(scheme, "collected")
    plan, roster = federation.plan, federation.roster
    federation.look()  # votes, or answers
    start = federation.mark()
    federation.offer(*federation.altered(plan, roster, attempt=2))
    federation.look()
    federation.assert_nothing_sealed(start, attempt=2)
    federation.assert_refused("round-over", "voted or answered in attempt 1 of round 1", since=start)


def test_f_a_new_attempt_after_the_opening(stage: Stage, scheme: str) -> None:
    federation = stage(scheme, "collected")
    plan, roster = federation.plan, federation.roster
    federation.until_complete()
    start = federation.mark()
    federation.offer(*federation.altered(plan, roster, attempt=2))
    federation.look()
    federation.assert_nothing_sealed(start, attempt=2)
    federation.assert_refused("round-over", "voted or answered in attempt 1 of round 1", since=start)


def test_f_a_third_set_of_contributors_on_one_base_model(stage: Stage, scheme: str) -> None:
    """Rounds lost after their ballots start again from the same model: each further set is a sum to subtract."""
    federation = stage(scheme, "collected")
    plan, roster, seats = federation.plan, federation.roster, federation.seats
    federation.show(two_ballots(federation)[0])
    federation.look()
    for number, contributors in ((2, seats[1:]), (3, [seats[0], *seats[2:]])):
        later, _ = federation.altered(plan, roster, round=number)
        federation.offer(later)
        federation.hostile.swallow(CONTRIBUTIONS.format(number, 1))
        federation.hostile.answer(
            rf"GET .*/rounds/{number}/1/parts$", {"parts": {}, "key_parts": {}, "manifest": False}
        )
        federation.look()
        delivered = federation.delivered(number)
        assert len(delivered) == 4
        start = federation.mark()
        listed = [each for each in delivered if each.manifest.message.site in [seat.id for seat in contributors]]
        federation.show(federation.ballot_of(listed, later), listed, plan=later)
        federation.hostile.answer(r"GET .*/votes$", [])
        federation.look()
    federation.assert_unanswered(start)
    federation.assert_refused("too-many-sets", "set 3 of contributors on one base model", since=start)


# --- (g)


def test_g_contributions_under_different_plans(stage: Stage, scheme: str) -> None:
    """Two halves are given plans of their own for one attempt; the ballot has them all, each site's own plan on it."""
    federation = stage(scheme, "planned")
    plan, (first, second, third, fourth) = federation.plan, federation.seats
    other, roster = federation.altered(plan, federation.roster, n_max=plan.n_max // 2)
    federation.offer(other, roster, third, fourth)
    federation.hostile.swallow(CONTRIBUTIONS.format(1, 1), third.id, fourth.id)
    federation.look()
    listed, start = federation.delivered(1), federation.mark()
    assert [each.manifest.message.plan for each in listed] == [plan.digest] * 2 + [other.digest] * 2

    federation.show(federation.ballot_of(listed, plan), (), first, second)
    federation.show(federation.ballot_of(listed, other), (), third, fourth, plan=other)
    federation.look()
    federation.assert_unanswered(start)
    federation.assert_refused("wrong-digest", "for another plan than this attempt's", since=start)
