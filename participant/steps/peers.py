"""Who takes part: approve peers as the policy says, and tell the coordinator which were approved."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final
from uuid import UUID

from crypto import envelope
from crypto.canonical import sha256
from crypto.epoch import Approval
from crypto.errors import CryptoError, Malformed
from crypto.identity import PublicIdentity
from crypto.parameters import K_LIMIT
from crypto.plan import Member, Plan, Roster
from crypto.words import words_of
from participant.policy import Refused
from participant.steps.desk import Approved, Desk

_AT_ONCE: Final = 100  # peers in a line of the ledger


def tend_peers(desk: Desk, listed: str | None = None) -> Roster | None:
    """Look at the study's members; returns those that this site approved, itself included.

    Members that left and still count are approved with them: what they signed is summed again.
    None before it joined, and where the list has other keys under its name: what is sealed to those is not for it.

    Args:
        listed: digest of their roster, where the coordinator told it: the one seen last is not asked for again.
    """
    site, roster = desk.site, desk.known
    if roster is None or roster.digest != listed:
        roster = site.client.roster(desk.study.id, roster)
    try:
        _check_own(desk, roster)
    except (Refused, CryptoError) as error:
        desk.refuse(error, roster.digest)
        return None
    former, approved = _former(desk), site.record.approved(desk.study.id)
    if desk.approved is not None and (desk.approved.members, desk.approved.seen) == (roster, _seen(former, approved)):
        return desk.approved.roster
    newcomers: list[Member] = []
    members = [each for each in roster.members if each.site == site.me or _approve(desk, each, approved, newcomers)]
    known = [*members, *(member for member in former if _approve(desk, member, approved, newcomers))]
    _keep(desk, newcomers)
    peers = {str(member.site): fingerprint(member) for member in known if member.site != site.me}
    approval = Approval(study=desk.study.id, site=site.me, peers=peers)
    if approval.digest != desk.sent_approval:
        site.client.approve(site.identity.sign(approval))
        desk.sent_approval = approval.digest
    found: Roster | None = roster
    if len(members) < len(roster.members):
        found = Roster(study=desk.study.id, members=tuple(members)) if members else None
    everybody = len(known) == len(roster.members) + len(former)
    # What was read above, not what is approved by now: a person may have approved somebody since, who is in none of it.
    seen = _seen(former, approved | {member.site: fingerprint(member) for member in newcomers})
    desk.approved = Approved(roster, seen, found, everybody)
    return found


def _seen(former: Sequence[Member], approved: Mapping[UUID, str]) -> str:
    left = "".join(f"{member.site.hex}{fingerprint(member)}" for member in former)
    listed = "".join(f"{site.hex}{keys}" for site, keys in sorted(approved.items()))
    return sha256(f"{left}/{listed}".encode())


def check_members(desk: Desk, roster: Roster) -> None:
    """Raise unless every member of a plan's roster was approved, with these keys, and this site is on it.

    Raises:
        Refused: naming the member.
        Malformed: a member's keys are no keys.
    """
    _check_own(desk, roster)
    approved = desk.site.record.approved(desk.study.id)
    for member in roster.members:
        if member.site != desk.site.me:
            _check_approved(desk, member, "is on the roster", approved)
    if roster.member(desk.site.me) is None:
        raise Refused("not-on-roster", "this site is not on the plan's roster")


def check_approved(desk: Desk, member: Member, what: str) -> None:
    """Raise unless a member was approved here with these keys.

    Args:
        what: what the plan has it do, for the words.

    Raises:
        Refused: naming it.
        Malformed: its keys are no keys.
    """
    _check_approved(desk, member, what, desk.site.record.approved(desk.study.id))


def _check_approved(desk: Desk, member: Member, what: str, approved: Mapping[UUID, str]) -> None:
    if approved.get(member.site) != fingerprint(member):
        words = (
            f"{member.name} {what} and was not approved here with these keys: "
            f"{PublicIdentity.of_member(member).words}. Compare by telephone, then: {_how(desk, member)}"
        )
        raise Refused("peer-not-approved", words)


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


def _former(desk: Desk) -> list[Member]:
    return desk.site.client.former_members(desk.study.id) if desk.study.carries else []


def _check_own(desk: Desk, roster: Roster) -> None:
    own = roster.member(desk.site.me)
    if own is not None and PublicIdentity.of_member(own) != desk.site.identity.public:
        words = (
            "the roster lists this site with keys that are not its own: others would seal to somebody else what is "
            "meant for it. Ask the coordinator's operator, and tell the other hospitals"
        )
        raise Refused("own-keys-differ", words)


def _how(desk: Desk, member: Member) -> str:
    return f"pleura-participant approve {shlex.quote(desk.study.name)} {shlex.quote(member.name)}"


def _approve(desk: Desk, member: Member, approved: Mapping[UUID, str], newcomers: list[Member]) -> bool:
    """Whether a peer is approved; the policy `auto` takes the keys first met under an id, and no others later.

    Args:
        newcomers: gets those that the policy approved here and now; `_keep` writes them down.
    """
    known = approved.get(member.site)
    try:
        if known == fingerprint(member):
            return True
        public = usable_identity(member)
    except CryptoError as error:
        desk.refuse(error, f"{desk.study.id}/{member.site}")
        return False
    how = _how(desk, member)
    if known is not None:
        _refuse_change(desk, member, public, known, how)
        return False
    if desk.site.policy.peers == "ask":
        words = f"{member.name} waits for approval: {public.words}. Compare by telephone, then: {how}"
        desk.say_once(words, logging.WARNING)
        fields = {"site": str(member.site), "name": member.name, "words": words}
        desk.note_once(f"{desk.study.id}/{public.fingerprint}", "peer-waits", None, **fields)
        return False
    newcomers.append(member)
    return True


def _keep(desk: Desk, newcomers: Sequence[Member]) -> None:
    """What the policy `auto` approved: in the record and the ledger, many at once."""
    if not newcomers:
        return
    peers = {member.site: fingerprint(member) for member in newcomers}
    desk.site.record.approve_all(desk.study.id, peers)
    sites = [{"site": str(member.site), "name": member.name, "fingerprint": peers[member.site]} for member in newcomers]
    for start in range(0, len(sites), _AT_ONCE):
        desk.note("peers-approved", sites=sites[start : start + _AT_ONCE], how="auto")
    for member in newcomers:
        desk.say(f"approved {member.name} by the policy auto: {PublicIdentity.of_member(member).words}")


def _refuse_change(desk: Desk, member: Member, public: PublicIdentity, known: str, how: str) -> None:
    """A peer with other keys: in the ledger once, on the terminal at every start, until a person has approved them."""
    words = (
        f"{member.name} shows other keys than those approved here: {public.words}, and not {words_of_hex(known)}. "
        f"It may have lost its keys, or somebody is in its place: compare by telephone, then: {how}"
    )
    fields = {"code": "peer-changed", "words": words, "about": public.fingerprint, "site": str(member.site)}
    desk.note_once(f"{desk.study.id}/{public.fingerprint}", "refusal", None, **fields)
    desk.say_once(f"refused (peer-changed): {words}", logging.WARNING)


def words_of_hex(fingerprint: str) -> str:
    """A fingerprint as people compare it."""
    return words_of(bytes.fromhex(fingerprint))


@lru_cache(K_LIMIT)
def usable_identity(member: Member) -> PublicIdentity:
    """A member's keys, if something can be sealed to them: nobody could deal a key to a study with others in it.

    Raises:
        Malformed: naming the member.
    """
    try:
        public = PublicIdentity.of_member(member)
        envelope.seal(public, b"", "pleura/probe/v1", "00" * 32, member.site, member.site)
    except Malformed as error:
        raise Malformed(f"the keys of {member.name} are not usable, so it cannot be approved: {error}") from None
    return public
