"""Every check passes what an honest party sends and refuses each way in which it can be wrong."""

from __future__ import annotations

import uuid
from dataclasses import FrozenInstanceError
from itertools import combinations

import numpy as np
import pytest

from crypto import checks
from crypto.canonical import sha256
from crypto.epoch import Approval, WrapAddition
from crypto.errors import InvalidSignature, Malformed, MalformedKeyPart, WrongDigest, WrongRecipient
from crypto.identity import Identity
from crypto.manifest import Ballot, BodyOpening, Manifest, Opening, ShareOpening, Vote
from crypto.outcome import Outcome, SealedAnswer
from crypto.parameters import N
from crypto.plan import Roster, draw
from crypto.schemes import Recipients, scheme, shares

STRANGER = Identity.generate()
BALLOT, OTHER_BALLOT = "cd" * 32, "ce" * 32
# Digests and ids are compared, not ordered: what differs is refused whether it sorts before or after.
DIGESTS = ["00" * 32, "ff" * 32]
STUDIES = [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)]


# --- roster


def test_the_plans_roster_passes(federation):
    assert checks.check_roster(federation.plan, federation.roster) is federation.roster


def test_another_roster_is_refused(federation):
    fewer = Roster(study=federation.roster.study, members=federation.roster.members[:-1])
    with pytest.raises(WrongDigest, match="names by its digest"):
        checks.check_roster(federation.plan, fewer)


@pytest.mark.parametrize("digest", DIGESTS)
def test_a_roster_that_the_plan_does_not_name_is_refused(federation, digest):
    other = federation.with_plan(roster=digest)
    with pytest.raises(WrongDigest, match="names by its digest"):
        checks.check_roster(other.plan, other.roster)
    ballot = other.ballot()
    with pytest.raises(WrongDigest, match="names by its digest"):
        checks.check_ballot(ballot, other.plan, other.roster, other.sites[0], None, 2)


@pytest.mark.parametrize("study", STUDIES)
def test_another_studys_roster_is_refused(federation, study):
    other = federation.with_plan(study=str(study))
    with pytest.raises(Malformed, match="another study"):
        checks.check_roster(other.plan, other.roster)


def test_whoever_is_expected_is_on_the_roster(federation):
    fewer = Roster(study=federation.roster.study, members=federation.roster.members[:-1])
    changed = federation.with_plan(roster=fewer.digest)
    with pytest.raises(Malformed, match="not on its roster"):
        checks.check_roster(changed.plan, fewer)


def test_only_the_draw_may_be_expected(federation):
    """Whether a choice sorts before or after the draw's."""
    sites, roster = federation.sites, federation.roster
    for attempt in range(1, 7):
        drawn = draw(roster, 3, attempt, 2)
        for chosen in combinations(sites, 2):
            plan = federation.with_plan(attempt=attempt, expected=list(map(str, chosen))).plan
            if chosen == drawn:
                assert checks.check_roster(plan, roster) is roster
            else:
                with pytest.raises(Malformed, match="its draw"):
                    checks.check_roster(plan, roster)


def test_members_have_real_keys(federation):
    members = [member.to_json() for member in federation.roster.members]
    members[1]["hpke_key"] = "00" * 10
    bad = Roster.from_json({"study": str(federation.roster.study), "members": members})
    with pytest.raises(Malformed, match="public keys"):
        checks.check_roster(federation.with_plan(roster=bad.digest).plan, bad)


def test_a_threshold_beyond_the_roster_is_refused(federation):
    for threshold in (5, 6, 1000):
        changed = federation.with_plan(scheme="lwe-shamir", epoch=None, threshold=threshold)
        with pytest.raises(Malformed, match=f"shares of {threshold}"):
            checks.check_roster(changed.plan, changed.roster)
    for threshold in (3, 4):
        fitting = federation.with_plan(scheme="lwe-shamir", epoch=None, threshold=threshold)
        assert checks.check_roster(fitting.plan, fitting.roster) is fitting.roster


# --- epochs


@pytest.mark.parametrize("study", STUDIES)
def test_another_studys_epoch_record_is_refused(federation, study):
    record = federation.dealt.record.message.model_copy(update={"study": study})
    signed = federation.identities[record.dealer].sign(record)
    with pytest.raises(Malformed, match="another study"):
        checks.check_epoch(signed, federation.roster)


@pytest.mark.parametrize("digest", DIGESTS)
def test_an_addition_to_another_epoch_is_refused(federation, digest):
    record, site = federation.dealt.record.message, federation.sites[1]
    addition = WrapAddition(epoch=record.digest, holder=site, wrap=record.wraps[0])
    assert checks.check_addition(federation.identities[site].sign(addition), record, federation.roster) == addition
    other = federation.identities[site].sign(addition.model_copy(update={"epoch": digest}))
    with pytest.raises(WrongDigest, match="another epoch"):
        checks.check_addition(other, record, federation.roster)


# --- manifests


def test_an_expected_members_manifest_passes(federation):
    for site, identity in federation.identities.items():
        manifest = federation.manifest(site)
        assert checks.check_manifest(identity.sign(manifest), federation.plan, federation.roster) == manifest


@pytest.mark.parametrize("digest", DIGESTS)
def test_a_manifest_for_another_plan_is_refused(federation, digest):
    site = federation.sites[0]
    signed = federation.identities[site].sign(federation.manifest(site, plan=digest))
    with pytest.raises(WrongDigest, match="another plan"):
        checks.check_manifest(signed, federation.plan, federation.roster)


def test_a_manifest_signed_by_another_site_is_refused(federation):
    first, second = federation.sites[:2]
    for identity in (federation.identities[second], STRANGER):
        with pytest.raises(InvalidSignature):
            checks.check_manifest(identity.sign(federation.manifest(first)), federation.plan, federation.roster)


def test_a_member_who_is_not_expected_is_refused(federation):
    last = federation.sites[-1]
    changed = federation.with_plan(expected=[str(site) for site in federation.sites[:-1]])
    with pytest.raises(Malformed, match="not among those"):
        checks.check_manifest(changed.identities[last].sign(changed.manifest(last)), changed.plan, changed.roster)


@pytest.mark.parametrize(("scheme", "wanted"), [("lwe-ckks", 1), ("lwe-shamir", 4), ("ckks", 0)])
def test_the_scheme_says_how_many_key_parts(federation, scheme, wanted):
    shamir = scheme == "lwe-shamir"
    changed = federation.with_plan(scheme=scheme, epoch=None if shamir else "ee" * 32, threshold=3 if shamir else None)
    site = changed.sites[0]
    for number in (0, 1, 2, 4, 5):
        manifest = changed.manifest(site, key_parts=("bb" * 32,) * number)
        signed = changed.identities[site].sign(manifest)
        if number == wanted:
            checks.check_manifest(signed, changed.plan, changed.roster)
        else:
            with pytest.raises(Malformed, match="key parts"):
                checks.check_manifest(signed, changed.plan, changed.roster)


# --- ballots


def checked(federation, ballot, me=None, own=None, minimum=2):
    return checks.check_ballot(ballot, federation.plan, federation.roster, me or uuid.UUID(int=0), own, minimum)


def test_a_ballot_passes_with_and_without_this_site(federation):
    first, second, third, fourth = federation.sites
    ballot = federation.ballot([first, second, third])
    listed = checked(federation, ballot, first, federation.manifest(first))
    assert listed == checks.CheckedBallot(ballot.digest, (first, second, third), fresh=3, own_missing=False)
    assert not checked(federation, ballot, fourth).own_missing  # it sent none
    assert checked(federation, ballot, fourth, federation.manifest(fourth)).own_missing
    with pytest.raises(FrozenInstanceError):
        listed.own_missing = True


def test_a_ballot_of_another_plan_is_refused(federation):
    ballot = federation.with_plan(attempt=2).ballot()
    with pytest.raises(WrongDigest, match="another plan"):
        checked(federation, ballot)
    mixed = Ballot(plan=federation.plan.digest, manifests=ballot.manifests)
    with pytest.raises(WrongDigest, match="another plan"):
        checked(federation, mixed)


@pytest.mark.parametrize("digest", DIGESTS)
def test_a_ballot_that_names_another_plan_is_refused(federation, digest):
    ballot = Ballot(plan=digest, manifests=federation.ballot().manifests)
    with pytest.raises(WrongDigest, match="this site accepted last"):
        checked(federation, ballot)


def test_a_forged_manifest_in_a_ballot_is_refused(federation):
    first, second = federation.sites[:2]
    honest = federation.identities[first].sign(federation.manifest(first))
    forged = STRANGER.sign(federation.manifest(second))
    with pytest.raises(InvalidSignature):
        checked(federation, Ballot(plan=federation.plan.digest, manifests=(honest, forged)))


@pytest.mark.parametrize(("listed", "planned", "own"), [(1, 2, 1), (2, 3, 2), (2, 2, 3), (3, 2, 4)])
def test_too_few_contributors_by_the_plan_or_by_this_site(federation, listed, planned, own):
    changed = federation.with_plan(minimum_contributors=planned)
    with pytest.raises(Malformed, match=f"{listed} contributors; at least {max(planned, own)}"):
        checked(changed, changed.ballot(changed.sites[:listed]), minimum=own)
    assert checked(changed, changed.ballot(), minimum=own).contributors == tuple(changed.sites)


def test_more_contributors_than_lanes_have_room_for(federation):
    """The plan's own check keeps the expected below k_max; this one does not rely on it."""
    narrow = federation.plan.model_copy(update={"k_max": 3})
    ballot = federation.with_plan().ballot()
    signed = tuple(
        federation.identities[site].sign(federation.manifest(site, plan=narrow.digest)) for site in federation.sites
    )
    with pytest.raises(Malformed, match="at most 3 admitted"):
        checks.check_ballot(
            Ballot(plan=narrow.digest, manifests=signed),
            narrow,
            federation.roster,
            ballot.manifests[0].message.site,
            signed[0].message,
            2,
        )


def test_another_manifest_under_this_sites_name_is_refused(federation):
    first = federation.sites[0]
    ballot = federation.ballot()
    for own in (federation.manifest(first, parts=("dd" * 32,)), None):
        with pytest.raises(Malformed, match="under this site's name"):
            checked(federation, ballot, first, own)


def test_a_ballot_lists_each_site_once_in_order(federation):
    first, second = (federation.identities[site].sign(federation.manifest(site)) for site in federation.sites[:2])
    for manifests in ((first, first), (second, first)):
        with pytest.raises(Malformed, match="sorted by site id"):
            Ballot.from_json({"plan": federation.plan.digest, "manifests": [entry.to_json() for entry in manifests]})


# --- votes and other replies to a ballot, approvals


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


def test_approvals(federation):
    first, second = federation.sites[:2]
    peers = {str(second): federation.identities[second].public.fingerprint}
    approval = Approval(study=federation.roster.study, site=first, peers=peers)
    signed = federation.identities[first].sign(approval)
    assert checks.check_approval(signed, federation.roster) == approval
    with pytest.raises(InvalidSignature):
        checks.check_approval(federation.identities[second].sign(approval), federation.roster)
    for study in STUDIES:
        elsewhere = Approval(study=study, site=first, peers=peers)
        with pytest.raises(Malformed, match="another study"):
            checks.check_approval(federation.identities[first].sign(elsewhere), federation.roster)


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


def test_a_vote_is_not_taken_for_a_manifest(federation):
    """Kinds are part of what is signed: the same signature under another kind does not verify."""
    site = federation.sites[0]
    signed = federation.identities[site].sign(Vote(ballot=BALLOT, site=site))
    manifest = federation.manifest(site)
    moved = federation.identities[site].sign(manifest).model_copy(update={"signature": signed.signature})
    with pytest.raises(InvalidSignature):
        checks.check_manifest(moved, federation.plan, federation.roster)
    assert Manifest.kind_name != Vote.kind_name


# --- what is checked before a share is opened


@pytest.fixture
def sharing(federation):
    return federation.with_plan(scheme="lwe-shamir", epoch=None, threshold=3)


def answered(sharing, ballot=None, me=None, parts=4):
    """The answer to a ballot of the first site alone, whose secret is zero."""
    first, second = sharing.sites[:2]
    sealed = shares.seal_shares(sharing.plan, Recipients(sharing.roster, first), np.zeros(N, np.int64))
    manifest = sharing.manifest(first, key_parts=tuple(map(sha256, (*sealed, *sealed)))[:parts])
    signed = sharing.identities[first].sign(manifest)
    shown = Ballot(plan=ballot or sharing.plan.digest, manifests=(signed,))
    mine = {first: sealed[1]}
    return shares.open_shares(sharing.plan, sharing.roster, shown, mine, sharing.identities[second], me or second)


def test_a_share_is_answered(sharing):
    answer = answered(sharing)
    assert (answer.site, len(answer.share_sum)) == (sharing.sites[1], N)


@pytest.mark.parametrize("digest", DIGESTS)
def test_shares_are_not_answered_for_another_plan_or_roster(sharing, digest):
    with pytest.raises(WrongDigest, match="another plan"):
        answered(sharing, ballot=digest)
    with pytest.raises(WrongDigest, match="names by its digest"):
        shares.check_sharing(sharing.with_plan(roster=digest).plan, sharing.roster)


def test_a_stranger_answers_nothing(sharing):
    for stranger in (uuid.UUID(int=0), uuid.UUID(int=50)):
        with pytest.raises(WrongRecipient, match="not on this plan's roster"):
            answered(sharing, me=stranger)


def test_a_manifest_has_a_share_for_each_member(sharing):
    for parts in (3, 5):
        with pytest.raises(Malformed, match=f"lists {parts} shares"):
            answered(sharing, parts=parts)


def test_a_sealed_share_has_one_size():
    shares.check_sealed_share(bytes(shares.SEALED_SHARE_BYTES))
    for size in (0, shares.SEALED_SHARE_BYTES - 1, shares.SEALED_SHARE_BYTES + 1):
        with pytest.raises(MalformedKeyPart, match=f"this one {size}"):
            shares.check_sealed_share(bytes(size))


def test_as_many_answers_open_as_the_plan_says(federation, sharing):
    assert scheme("lwe-shamir").openings_needed(sharing.plan) == 3
    assert scheme("lwe-shamir").openings_needed(federation.plan) == 0
