"""Checks of manifests and ballots: the right ones pass, each wrong one is refused."""

from __future__ import annotations

import uuid
from dataclasses import FrozenInstanceError

import pytest
from strangers import BALLOT, DIGESTS, STRANGER

from crypto import checks
from crypto.errors import InvalidSignature, Malformed, WrongDigest
from crypto.manifest import Ballot, Manifest, Vote

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


def test_a_vote_is_not_taken_for_a_manifest(federation):
    """Kinds are part of what is signed: the same signature under another kind does not verify."""
    site = federation.sites[0]
    signed = federation.identities[site].sign(Vote(ballot=BALLOT, site=site))
    manifest = federation.manifest(site)
    moved = federation.identities[site].sign(manifest).model_copy(update={"signature": signed.signature})
    with pytest.raises(InvalidSignature):
        checks.check_manifest(moved, federation.plan, federation.roster)
    assert Manifest.kind_name != Vote.kind_name


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
