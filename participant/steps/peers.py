"""Who takes part: approve peers as the policy says, and tell the coordinator which were approved."""

from __future__ import annotations

import logging

from crypto.epoch import Approval
from crypto.identity import PublicIdentity
from crypto.plan import Member, Plan, Roster
from participant.policy import Refused
from participant.steps.desk import Desk


def tend_peers(desk: Desk) -> Roster | None:
    """Look at the study's members; returns those that this site approved, itself included (None before it joined)."""
    site = desk.site
    roster = site.client.roster(desk.study.id)
    members = [member for member in roster.members if member.site == site.me or _approve(desk, member)]
    peers = {str(member.site): fingerprint(member) for member in members if member.site != site.me}
    approval = Approval(study=desk.study.id, site=site.me, peers=peers)
    if approval.digest != desk.sent_approval:
        site.client.approve(site.identity.sign(approval))
        desk.sent_approval = approval.digest
    return Roster(study=desk.study.id, members=tuple(members)) if members else None


def check_members(desk: Desk, roster: Roster) -> None:
    """Raise unless every member of a plan's roster was approved, with these keys, and this site is on it.

    Raises:
        Refused: naming the member.
        Malformed: a member's keys are no keys.
    """
    approved = desk.site.record.approved(desk.study.id)
    for member in roster.members:
        if member.site == desk.site.me:
            if PublicIdentity.of_member(member) != desk.site.identity.public:
                raise Refused("own-keys-differ", "the roster lists this site with keys that are not its own")
        elif approved.get(member.site) != fingerprint(member):
            raise Refused("peer-not-approved", f"{member.name} is on the roster and was not approved here")
    if roster.member(desk.site.me) is None:
        raise Refused("not-on-roster", "this site is not on the plan's roster")


def check_plan_scope(desk: Desk, plan: Plan) -> None:
    """Raise unless the plan is of this study as it was joined.

    Raises:
        Refused: it names another study, recipe or layout, or does not fit the layout.
    """
    study = desk.study
    if (plan.study, plan.recipe, plan.layout) != (study.id, study.recipe_digest, study.layout_digest):
        raise Refused("plan-of-other-study", "the plan names another study, recipe or layout than this site joined")
    if len(plan.bounds) != len(desk.layout.tensors):
        raise Refused("plan-misfit", f"the plan has {len(plan.bounds)} bounds for {len(desk.layout.tensors)} tensors")


def fingerprint(member: Member) -> str:
    """What peers approve: the SHA-256 over both public keys."""
    return PublicIdentity.of_member(member).fingerprint


def _approve(desk: Desk, member: Member) -> bool:
    """Whether a peer is approved; the policy `auto` takes the keys first met under an id, and no others later."""
    record, public = desk.site.record, PublicIdentity.of_member(member)
    known = record.approved(desk.study.id).get(member.site)
    if known == public.fingerprint:
        return True
    how = f"pleura-participant approve {desk.study.id} {member.site}"
    if known is not None:
        words = f"{member.name} shows other keys than those approved here ({public.words}); ask there, then: {how}"
        desk.refuse(Refused("peer-changed", words), public.fingerprint)
        return False
    if desk.site.policy.peers == "ask":
        desk.say_once(
            f"{member.name} waits for approval: {public.words}. Compare by telephone, then: {how}", logging.WARNING
        )
        return False
    record.approve(desk.study.id, member.site, public.fingerprint)
    desk.note("peer-approved", site=str(member.site), name=member.name, fingerprint=public.fingerprint, how="auto")
    desk.say(f"approved {member.name} by the policy auto: {public.words}")
    return True
