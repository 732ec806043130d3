"""Checks of votes and other replies to a ballot: which count, and which are refused."""

from __future__ import annotations

import uuid

import pytest
from strangers import BALLOT, DIGESTS, OTHER_BALLOT, STRANGER

from crypto import checks
from crypto.errors import InvalidSignature, Malformed, WrongDigest
from crypto.manifest import BodyOpening, Opening, ShareOpening, Vote
from crypto.outcome import Outcome, SealedAnswer
from crypto.parameters import N
from crypto.plan import Roster


def votes(federation, sites, ballot=BALLOT):
    return [federation.identities[site].sign(Vote(ballot=ballot, site=site)) for site in sites]


def test_votes_are_counted(federation):
    for number in range(5):
        chosen = votes(federation, federation.sites[:number])
        assert checks.check_votes(chosen, BALLOT, federation.roster) == number


@pytest.mark.parametrize(("members", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3)])
def test_two_ballots_cannot_both_have_the_votes_they_need(federation, members, needed):
    roster = Roster(study=federation.roster.study, members=federation.roster.members[:members])
    assert checks.votes_needed(roster) == needed
    assert 2 * needed > members


def test_votes_that_do_not_count(federation):
    first, second = federation.sites[:2]
    with pytest.raises(Malformed, match="twice"):
        checks.check_votes(votes(federation, [first, first]), BALLOT, federation.roster)
    for other in (OTHER_BALLOT, *DIGESTS):
        with pytest.raises(WrongDigest, match="another ballot"):
            checks.check_votes(
                [*votes(federation, [first]), *votes(federation, [second], other)], BALLOT, federation.roster
            )
    forged = STRANGER.sign(Vote(ballot=BALLOT, site=second))
    stranger = STRANGER.sign(Vote(ballot=BALLOT, site=uuid.UUID(int=50)))
    for bad in (forged, stranger):
        with pytest.raises(InvalidSignature):
            checks.check_votes([*votes(federation, [first]), bad], BALLOT, federation.roster)


NOTHING = {"model": None, "size": None, "samples": 0, "capped_samples": 0, "clipped": (), "recipe": ()}
REPLIES = [
    (Vote, {}),
    (Opening, {"secret_sum": (0,) * N}),
    (ShareOpening, {"share_sum": (0,) * N}),
    (BodyOpening, {"parts": ("ab" * 32,)}),
    (SealedAnswer, {"envelopes": ("ab" * 32,)}),
    (Outcome, NOTHING),
]


@pytest.mark.parametrize(("kind", "fields"), REPLIES, ids=[kind.kind_name for kind, _ in REPLIES])
def test_replies_to_a_ballot(federation, kind, fields):
    first, second = federation.sites[:2]
    reply = kind(ballot=BALLOT, site=first, **fields)
    signed = federation.identities[first].sign(reply)
    assert checks.check_reply(signed, BALLOT, federation.roster) == reply
    for other in (OTHER_BALLOT, *DIGESTS):
        with pytest.raises(WrongDigest, match=f"the {kind.kind_name} of site {first} is for another ballot"):
            checks.check_reply(signed, other, federation.roster)
    stranger = kind(ballot=BALLOT, site=uuid.UUID(int=50), **fields)
    for forged in (STRANGER.sign(reply), federation.identities[second].sign(reply), STRANGER.sign(stranger)):
        with pytest.raises(InvalidSignature):
            checks.check_reply(forged, BALLOT, federation.roster)


@pytest.mark.parametrize(
    ("scheme", "votes", "kind"),
    [("lwe-ckks", True, Opening), ("lwe-shamir", False, ShareOpening), ("ckks", True, BodyOpening)],
)
def test_the_scheme_says_how_a_ballot_is_answered(federation, scheme, votes, kind):
    shamir = scheme == "lwe-shamir"
    plan = federation.with_plan(
        scheme=scheme, epoch=None if shamir else "ee" * 32, threshold=3 if shamir else None
    ).plan
    assert checks.takes_votes(plan.scheme) is votes
    assert checks.answer_kind(plan) is kind
