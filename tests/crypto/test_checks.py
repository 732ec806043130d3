"""Every check passes what an honest party sends and refuses each way in which it can be wrong."""

from __future__ import annotations

import uuid

import pytest

from crypto import checks
from crypto.epoch import Approval
from crypto.errors import InvalidSignature, Malformed, WrongDigest
from crypto.identity import Identity
from crypto.manifest import Ballot, Manifest, Opening, Refusal, Vote
from crypto.parameters import N
from crypto.plan import Roster

STRANGER = Identity.generate()
BALLOT, OTHER_BALLOT = "cd" * 32, "ce" * 32


# --- roster


def test_the_plans_roster_passes(federation):
    assert checks.check_roster(federation.plan, federation.roster) is federation.roster


def test_another_roster_is_refused(federation):
    fewer = Roster(study=federation.roster.study, members=federation.roster.members[:-1])
    with pytest.raises(WrongDigest, match="names by its digest"):
        checks.check_roster(federation.plan, fewer)


def test_another_studys_roster_is_refused(federation):
    other = federation.with_plan(study=str(uuid.UUID(int=78)))
    with pytest.raises(Malformed, match="another study"):
        checks.check_roster(other.plan, other.roster)


def test_whoever_is_expected_is_on_the_roster(federation):
    fewer = Roster(study=federation.roster.study, members=federation.roster.members[:-1])
    changed = federation.with_plan(roster=fewer.digest)
    with pytest.raises(Malformed, match="not on its roster"):
        checks.check_roster(changed.plan, fewer)


def test_members_have_real_keys(federation):
    members = [member.to_json() for member in federation.roster.members]
    members[1]["hpke_key"] = "00" * 10
    bad = Roster.from_json({"study": str(federation.roster.study), "members": members})
    with pytest.raises(Malformed, match="public keys"):
        checks.check_roster(federation.with_plan(roster=bad.digest).plan, bad)


def test_a_threshold_beyond_the_roster_is_refused(federation):
    changed = federation.with_plan(scheme="lwe-shamir", epoch=None, threshold=5)
    with pytest.raises(Malformed, match="shares of 5"):
        checks.check_roster(changed.plan, changed.roster)


# --- manifests


def test_an_expected_members_manifest_passes(federation):
    for site, identity in federation.identities.items():
        manifest = federation.manifest(site)
        assert checks.check_manifest(identity.sign(manifest), federation.plan, federation.roster) == manifest


def test_a_manifest_for_another_plan_is_refused(federation):
    site = federation.sites[0]
    signed = federation.identities[site].sign(federation.manifest(site, plan="99" * 32))
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
    assert listed == checks.CheckedBallot(ballot.digest, (first, second, third), own_missing=False)
    assert not checked(federation, ballot, fourth).own_missing  # it sent none
    assert checked(federation, ballot, fourth, federation.manifest(fourth)).own_missing


def test_a_ballot_of_another_plan_is_refused(federation):
    ballot = federation.with_plan(attempt=2).ballot()
    with pytest.raises(WrongDigest, match="another plan"):
        checked(federation, ballot)
    mixed = Ballot(plan=federation.plan.digest, manifests=ballot.manifests)
    with pytest.raises(WrongDigest, match="another plan"):
        checked(federation, mixed)


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


# --- votes, openings, refusals, approvals


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
    with pytest.raises(WrongDigest, match="another ballot"):
        checks.check_votes(
            [*votes(federation, [first]), *votes(federation, [second], OTHER_BALLOT)], BALLOT, federation.roster
        )
    forged = STRANGER.sign(Vote(ballot=BALLOT, site=second))
    stranger = STRANGER.sign(Vote(ballot=BALLOT, site=uuid.UUID(int=50)))
    for bad in (forged, stranger):
        with pytest.raises(InvalidSignature):
            checks.check_votes([*votes(federation, [first]), bad], BALLOT, federation.roster)


def test_openings(federation):
    site = federation.sites[0]
    opening = Opening(ballot=BALLOT, site=site, secret_sum=(0,) * N)
    signed = federation.identities[site].sign(opening)
    assert checks.check_opening(signed, BALLOT, federation.roster) == opening
    with pytest.raises(WrongDigest):
        checks.check_opening(signed, OTHER_BALLOT, federation.roster)
    with pytest.raises(InvalidSignature):
        checks.check_opening(STRANGER.sign(opening), BALLOT, federation.roster)


def test_refusals(federation):
    site = federation.sites[0]
    refusal = Refusal(site=site, step="ballot", about=BALLOT, code="too-few", words="Too few contributors.")
    signed = federation.identities[site].sign(refusal)
    assert checks.check_refusal(signed, BALLOT, federation.roster) == refusal
    with pytest.raises(WrongDigest):
        checks.check_refusal(signed, OTHER_BALLOT, federation.roster)
    with pytest.raises(InvalidSignature):
        checks.check_refusal(STRANGER.sign(refusal), BALLOT, federation.roster)


def test_approvals(federation):
    first, second = federation.sites[:2]
    peers = {str(second): federation.identities[second].public.fingerprint}
    approval = Approval(study=federation.roster.study, site=first, peers=peers)
    signed = federation.identities[first].sign(approval)
    assert checks.check_approval(signed, federation.roster) == approval
    with pytest.raises(InvalidSignature):
        checks.check_approval(federation.identities[second].sign(approval), federation.roster)
    elsewhere = Approval(study=uuid.UUID(int=78), site=first, peers=peers)
    with pytest.raises(Malformed, match="another study"):
        checks.check_approval(federation.identities[first].sign(elsewhere), federation.roster)


def test_a_vote_is_not_taken_for_a_manifest(federation):
    """Kinds are part of what is signed: the same signature under another kind does not verify."""
    site = federation.sites[0]
    signed = federation.identities[site].sign(Vote(ballot=BALLOT, site=site))
    manifest = federation.manifest(site)
    moved = federation.identities[site].sign(manifest).model_copy(update={"signature": signed.signature})
    with pytest.raises(InvalidSignature):
        checks.check_manifest(moved, federation.plan, federation.roster)
    assert Manifest.kind_name != Vote.kind_name
