"""Plans and rosters under which `lwe-shamir` deals, answers and combines nothing."""

from __future__ import annotations

import pytest
import shamir_round
from shamir_round import COUNTS, SCHEME, SITES, Round

from crypto.errors import Malformed, OutOfRange, TooFewShares, WrongDigest
from crypto.parameters import N
from crypto.plan import Plan, Roster
from crypto.schemes import Recipients
from crypto.shamir import P

updates, played = shamir_round.updates, shamir_round.played


@pytest.mark.parametrize("threshold", [1, 3, 4, 8])
def test_a_threshold_that_would_not_hold_is_refused_by_all(federation, played, updates, threshold):
    plan = Plan.from_json(played.plan.to_json() | {"threshold": threshold})
    for call in (
        lambda: SCHEME.seal(plan, played.layout, updates[0], 40, COUNTS, Recipients(played.roster, SITES[0])),
        lambda: played.answer(SITES[0], plan=plan),
        lambda: SCHEME.combine(plan, played.roster, played.answers()),
    ):
        with pytest.raises(Malformed, match=f"5 to 7 of them open; the plan .lwe-shamir. says {threshold}"):
            call()


def test_a_higher_threshold_is_a_plans_choice(federation, updates):
    played = Round(federation, updates[:3], [40, 250, 80], threshold=7)
    played.reveal(played.combine(played.answers()).values)
    with pytest.raises(TooFewShares, match="it takes 7"):
        played.combine(played.answers(SITES[:6]))


def test_a_plan_of_another_scheme_has_no_shares(federation, played, updates):
    plan = federation.plan
    with pytest.raises(Malformed, match=r"\(lwe-ckks\) says nothing"):
        SCHEME.seal(plan, federation.layout, updates[0], 40, COUNTS, Recipients(federation.roster, SITES[0]))


@pytest.mark.parametrize("indices", [(P, 1, 2, 3, 4, 5, 6), (1, P + 1, 2, 3, 4, 5, 6)])
def test_an_index_that_would_give_the_secret_away(federation, updates, indices):
    """At p, which is 0, a share is the secret: a coordinator that numbers members so gets no shares."""
    with pytest.raises(Malformed, match="distinct indices"):
        Round(federation, updates[:3], [40, 250, 80], indices=indices)


def test_nothing_is_answered_under_such_an_index(played):
    members = [member.to_json() for member in played.roster.members]
    members[4]["index"] = P
    roster = Roster.from_json({"study": str(played.roster.study), "members": members})
    plan = Plan.from_json(played.plan.to_json() | {"roster": roster.digest})
    with pytest.raises(Malformed, match="distinct indices"):
        played.answer(SITES[0], plan=plan, roster=roster)


def test_another_roster_gets_no_shares(played, updates):
    fewer = Roster(study=played.roster.study, members=played.roster.members[:6])
    for call in (
        lambda: SCHEME.seal(played.plan, played.layout, updates[0], 40, COUNTS, Recipients(fewer, SITES[0])),
        lambda: played.answer(SITES[0], roster=fewer),
        lambda: SCHEME.combine(played.plan, fewer, played.answers()),
    ):
        with pytest.raises(WrongDigest, match="not the one that the plan names"):
            call()


def test_what_does_not_fit_is_said_as_in_lwe_ckks(played, updates):
    with pytest.raises(ValueError, match="training and no update"):
        played.seal(SITES[0], None, 40)
    with pytest.raises(OutOfRange, match="weight"):
        played.seal(SITES[0], updates[0], 0)
    with pytest.raises(OutOfRange, match="admits 1 to 7"):
        SCHEME.reveal(played.plan, played.layout, played.totals, [0] * N, 8)
    with pytest.raises(Malformed, match="4 bytes"):
        SCHEME.adder(played.plan, played.layout, 0).add(bytes(4))
