"""Checks of rosters, epoch records, additions and approvals: the right ones pass, each wrong one is refused."""

from __future__ import annotations

from itertools import combinations

import pytest
from strangers import DIGESTS, STUDIES

from crypto import checks
from crypto.epoch import Approval, WrapAddition
from crypto.errors import InvalidSignature, Malformed, WrongDigest
from crypto.plan import Roster, draw


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


# --- approvals


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
