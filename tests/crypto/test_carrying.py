"""Carried contributions in plans, manifests, ballots and openings: what passes, and each way in which it may not."""

from __future__ import annotations

import uuid
from dataclasses import replace

import numpy as np
import pytest

from crypto import checks
from crypto.canonical import sha256
from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext
from crypto.epochs import deal
from crypto.errors import InvalidSignature, Malformed, OpeningRefused, WrongDigest
from crypto.identity import Identity
from crypto.lwe import draw_secret
from crypto.manifest import Ballot
from crypto.plan import Plan, Roster
from crypto.schemes.opening import open_ballot

STRANGER = Identity.generate()


def changed(plan: Plan, **changes) -> Plan:
    return Plan.from_json(plan.to_json() | changes)


def entry_of(carrying, **changes) -> dict:
    return carrying.plan.carried[0].to_json() | changes


def checked(carrying, federation, ballot=None, minimum=2):
    first, own = federation.sites[0], carrying.ballot.manifests[0].message
    return checks.check_ballot(ballot or carrying.ballot, carrying.plan, federation.roster, first, own, minimum)


# --- plans


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": "ckks"},
        {"scheme": "lwe-shamir", "epoch": None, "threshold": 3},
        {"release": "members"},
    ],
)
def test_an_origin_takes_one_scheme_and_open_models(carrying, changes):
    with pytest.raises(Malformed, match="under lwe-ckks with release open only"):
        changed(carrying.plan, **changes)


def test_what_carries_is_a_training_plan_with_an_origin(carrying):
    with pytest.raises(Malformed, match="in training rounds"):
        changed(carrying.plan, kind="evaluation")
    plain = {key: value for key, value in carrying.plan.to_json().items() if key != "origin"}
    with pytest.raises(Malformed, match="relative to one model of all rounds"):
        Plan.from_json(plain)


def test_a_plan_has_room_for_what_it_carries(carrying):
    with pytest.raises(Malformed, match="k_max admits fewer"):
        changed(carrying.plan, k_max=4)
    assert changed(carrying.plan, k_max=5).carried == carrying.plan.carried


def test_a_site_is_carried_once(carrying):
    with pytest.raises(Malformed, match="one a site"):
        changed(carrying.plan, carried=[entry_of(carrying)] * 2)


def test_a_carried_site_is_not_on_the_roster(carrying, federation):
    assert checks.check_roster(carrying.plan, federation.roster) is federation.roster
    member = federation.roster.members[0].to_json()
    plan = changed(carrying.plan, carried=[entry_of(carrying, member=member)])
    with pytest.raises(Malformed, match="carries a contribution of Hospital 1, which is on its roster"):
        checks.check_roster(plan, federation.roster)


def test_a_carried_sites_keys_are_keys(carrying, federation):
    member = entry_of(carrying)["member"] | {"hpke_key": "00" * 10}
    plan = changed(carrying.plan, carried=[entry_of(carrying, member=member)])
    with pytest.raises(Malformed, match="public keys"):
        checks.check_roster(plan, federation.roster)


# --- manifests


def test_the_carried_manifest_passes_under_its_older_plan(carrying, federation):
    signed = carrying.leaver.sign(carrying.manifest)
    assert checks.check_manifest(signed, carrying.plan, federation.roster) == carrying.manifest


def test_no_other_manifest_of_an_older_plan_does(carrying, federation):
    other = carrying.manifest.model_copy(update={"parts": ("ab" * 32,)})
    with pytest.raises(WrongDigest, match="for another plan"):
        checks.check_manifest(carrying.leaver.sign(other), carrying.plan, federation.roster)
    site = federation.sites[3]
    older = federation.identities[site].sign(federation.manifest(site, plan="dd" * 32))
    with pytest.raises(WrongDigest, match="for another plan"):
        checks.check_manifest(older, carrying.plan, federation.roster)


def test_a_leaver_contributes_nothing_new(carrying, federation):
    fresh = carrying.manifest.model_copy(update={"plan": carrying.plan.digest})
    with pytest.raises(Malformed, match="not among those whose contribution the plan expects"):
        checks.check_manifest(carrying.leaver.sign(fresh), carrying.plan, federation.roster)


def test_the_carried_manifest_is_signed_by_who_left(carrying, federation):
    with pytest.raises(InvalidSignature):
        checks.check_manifest(STRANGER.sign(carrying.manifest), carrying.plan, federation.roster)


def test_the_carried_manifest_has_one_key_part(carrying, federation):
    manifest = carrying.manifest.model_copy(update={"key_parts": ()})
    plan = changed(carrying.plan, carried=[entry_of(carrying, manifest=manifest.digest)])
    with pytest.raises(Malformed, match="lists 0 key parts"):
        checks.check_manifest(carrying.leaver.sign(manifest), plan, federation.roster)


# --- ballots


def test_a_ballot_says_how_many_are_fresh(carrying, federation):
    found = checked(carrying, federation)
    assert (found.fresh, len(found.contributors)) == (3, 4)
    assert found.contributors[-1] == carrying.manifest.site


def test_the_minimum_is_of_the_fresh_ones(carrying, federation):
    assert checked(carrying, federation, minimum=3).fresh == 3
    with pytest.raises(Malformed, match="3 contributors, and 1 carried; at least 4 are demanded"):
        checked(carrying, federation, minimum=4)


def test_a_ballot_lists_all_that_its_plan_carries(carrying, federation):
    ballot = Ballot(plan=carrying.plan.digest, manifests=carrying.ballot.manifests[:3])
    with pytest.raises(Malformed, match="lists 0 of the 1 contributions that its plan carries"):
        checked(carrying, federation, ballot)


# --- openings


class Opened:
    """The ballot with real key parts: three under the plan's key, one under a former one."""

    def __init__(self, federation, carrying):
        site = federation.sites[0]
        fewer = Roster(study=federation.roster.study, members=federation.roster.members[:1])
        former = deal(federation.identities[site], site, federation.plan.study, 7, fewer)
        self.former, self.epoch, self.me = former.secret, former.record.message.digest, site
        self.secrets = {each: draw_secret() for each in (*federation.sites[:3], carrying.manifest.site)}
        public = dict.fromkeys(federation.sites, federation.public)
        public[carrying.manifest.site] = PublicContext.load(former.public_context)
        self.key_parts = {each: (public[each].encrypt(secret),) for each, secret in self.secrets.items()}
        manifest = carrying.manifest.model_copy(update={"key_parts": self.digests(carrying.manifest.site)})
        carried = entry_of(carrying, manifest=manifest.digest, epoch=self.epoch)
        self.plan = changed(carrying.plan, carried=[carried])
        fresh = replace(federation, plan=self.plan)
        signed = [
            federation.identities[each].sign(fresh.manifest(each, key_parts=self.digests(each)))
            for each in federation.sites[:3]
        ]
        self.ballot = Ballot(plan=self.plan.digest, manifests=(*signed, carrying.leaver.sign(manifest)))
        self.secret = federation.dealt.secret

    def digests(self, site: uuid.UUID) -> tuple[str, ...]:
        return tuple(sha256(part) for part in self.key_parts[site])

    def open(self, former):
        return open_ballot(self.plan, self.ballot, self.key_parts, self.secret, self.me, former)


@pytest.fixture(scope="module")
def opened(federation, carrying):
    return Opened(federation, carrying)


def test_sums_under_two_keys_are_answered_as_one(opened):
    answer = opened.open({opened.epoch: opened.former})
    assert np.array_equal(np.array(answer.secret_sum), sum(opened.secrets.values()))
    assert answer.ballot == opened.ballot.digest


def test_without_the_former_key_nothing_is_answered(opened, carrying):
    with pytest.raises(
        OpeningRefused, match=f"does not hold the key that the contribution of {carrying.manifest.site}"
    ):
        opened.open({})


def test_under_a_wrong_former_key_nothing_is_answered(opened):
    for wrong in (opened.secret, SecretContext.generate()):
        with pytest.raises(OpeningRefused):
            opened.open({opened.epoch: wrong})


def test_each_keys_sum_is_checked_by_itself(opened):
    """A value that no one secret has would pass among four: 32 a contribution."""
    *fresh, last = (entry.message for entry in opened.ballot.manifests)
    part = PublicContext.load(opened.former.public_bytes()).encrypt(np.full(2048, 33, np.int64))
    large = last.model_copy(update={"key_parts": (sha256(part),)})
    plan = changed(opened.plan, carried=[opened.plan.carried[0].to_json() | {"manifest": large.digest}])
    manifests = [*(each.model_copy(update={"plan": plan.digest}) for each in fresh), large]
    ballot = Ballot(plan=plan.digest, manifests=tuple(STRANGER.sign(each) for each in manifests))
    key_parts = opened.key_parts | {last.site: (part,)}
    with pytest.raises(OpeningRefused, match="a sum of 1 secrets stays within 32"):
        open_ballot(plan, ballot, key_parts, opened.secret, opened.me, {opened.epoch: opened.former})
