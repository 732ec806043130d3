"""The study's key: deal it when asked, hold it, pass it on to approved members that lack it, delete it in the end."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator
from typing import Final, TypeAlias
from uuid import UUID

from crypto import epochs
from crypto.canonical import sha256
from crypto.checks import check_addition
from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext
from crypto.epoch import EpochRecord, WrapAddition
from crypto.errors import CryptoError
from crypto.plan import Plan, Roster
from crypto.wire import Digest, Signed
from participant.documents import EpochState, Task
from participant.policy import Refused
from participant.session import Problem
from participant.steps.desk import Desk, Site

TURN_SECONDS: Final = 30.0  # of one holder to pass the key on; longer than a wait for news, so that none sleeps through

Source: TypeAlias = Signed[EpochRecord] | Signed[WrapAddition]


def tend_key(desk: Desk, epoch: EpochState, approved: Roster) -> None:
    """Do what the epoch's state asks of this site.

    Args:
        approved: the members that this site approved, itself included.
    """
    if epoch.record is None:
        if epoch.dealer == desk.site.me:
            _deal(desk, epoch.number, approved)
        return
    record = epoch.record.message
    try:
        check_newest(desk, record)
        held = desk.site.keyring.holds(desk.study.id, record.digest)
        if not held and not _receive(desk, epoch, epoch.record, approved):
            return
    except (Refused, CryptoError) as error:
        desk.refuse(error, record.digest)
        return
    _acknowledge(desk, epoch, record)
    for member in epoch.missing:
        if _is_my_turn(desk, epoch, record, member):
            _extend(desk, record, member, approved)


def check_newest(desk: Desk, record: EpochRecord) -> None:
    """Raise unless no later epoch, and no other one of this number, was held here before.

    Raises:
        Refused: a site that left may hold its key.
    """
    newest = desk.site.record.newest_epoch(desk.study.id)
    if newest is not None and (record.epoch, record.digest) != newest and record.epoch <= newest[0]:
        desk.site.record.keep_epoch(desk.study.id, record.epoch, record.digest)  # so that a plan for it is refused too
        words = f"the key of epoch {record.epoch} was offered again after that of epoch {newest[0]}; it is not used"
        raise Refused("epoch-old", words)


def check_plan_key(desk: Desk, plan: Plan) -> None:
    """Raise unless a plan is made for this study's newest key, or one that is still to come.

    Raises:
        Refused: it names one that was replaced.
    """
    record = desk.site.record
    newest = record.newest_epoch(desk.study.id)
    if plan.epoch is None or newest is None or plan.epoch == newest[1]:
        return
    if record.knows_epoch(desk.study.id, plan.epoch):
        raise Refused("epoch-old", f"the plan is for a key that was replaced by that of epoch {newest[0]}")


def drop_old_keys(desk: Desk, task: Task) -> None:
    """Delete the keys that no attempt can need any more.

    A retired key opens the attempt that was planned with it and no later one; where sites that left still count, as
    long as plans carry what is sealed under it. When the study is over, none is needed. With these keys, and what the
    coordinator once held, single updates could be read: they are better gone.
    """
    needed, over = set(), task.study_state in ("finished", "stopped")
    if not over and task.plan is None and desk.study.carries:
        return  # the next plan may carry what is under any of them
    if not over and task.epoch.record is not None:
        needed.add(task.epoch.record.message.digest)
    if task.plan is not None and task.plan.epoch is not None:
        needed |= {task.plan.epoch, *(carried.epoch for carried in task.plan.carried)}
    for _ in drop_keys(desk.site, desk.study.id, needed):
        desk.say("deleted a key of the study that no round needs any more")


def drop_keys(site: Site, study: UUID, needed: Collection[Digest] = ()) -> list[Digest]:
    """Delete a study's keys but those of the epochs that are needed, and say so in the ledger; returns which went."""
    gone = site.keyring.drop(study, needed)
    for epoch in gone:
        site.ledger.append("key-deleted", study=str(study), record=epoch)
    return gone


def _deal(desk: Desk, number: int, approved: Roster) -> None:
    """Make a key for the approved members; those approved later are given it as newcomers."""
    site, study = desk.site, desk.study.id
    dealt = epochs.deal(site.identity, site.me, study, number, approved)
    try:
        site.client.put_key(study, "public-context", dealt.public_context)
        for wrap in dealt.wraps.values():
            site.client.put_key(study, "wrap", wrap)
        site.client.put_epoch(dealt.record)
    except Problem as problem:  # another was faster, a member changed its keys meanwhile, too many tries
        desk.say(f"the key of epoch {number} was not taken: {problem.detail}")
        return
    site.keyring.keep(study, dealt.record.message.digest, dealt.secret, dealt.public_context)
    site.record.keep_epoch(study, number, dealt.record.message.digest)
    desk.note("key-dealt", epoch=number, record=dealt.record.message.digest, members=len(dealt.wraps))
    desk.say(f"dealt the key of epoch {number} to {len(dealt.wraps)} sites")


def _receive(desk: Desk, epoch: EpochState, signed: Signed[EpochRecord], approved: Roster) -> bool:
    """Open a wrap for this site, whichever does open. False while there is none.

    Raises:
        CryptoError: the record or its public context is not as it should be.
    """
    site, record = desk.site, signed.message
    sources = list(_sources(signed, epoch.additions, site.me))
    if not sources:
        desk.say_once(f"waiting for a member to pass on the key of epoch {record.epoch}")
        return False
    if not _approved(desk, record.dealer, approved):
        return False
    published = site.client.get_key(desk.study.id, record.context)
    record, public = epochs.accept(signed, published, approved)
    for source in sources:
        secret = _open(desk, source, record, public, approved)
        if secret is not None:
            site.keyring.keep(desk.study.id, record.digest, secret, published)
            site.record.keep_epoch(desk.study.id, record.epoch, record.digest)
            desk.note("key-received", epoch=record.epoch, record=record.digest, sender=str(_author(source)))
            desk.say(f"holds the key of epoch {record.epoch}, from {_named(_author(source), approved)}")
            return True
    return False


def _sources(signed: Signed[EpochRecord], additions: tuple[Signed[WrapAddition], ...], me: UUID) -> Iterator[Source]:
    """What lists a wrap for this site: the record, then the additions as they came."""
    if any(wrap.recipient == me for wrap in signed.message.wraps):
        yield signed
    yield from (each for each in additions if each.message.wrap.recipient == me and not each.message.acknowledges)


def _open(
    desk: Desk, source: Source, record: EpochRecord, public: PublicContext, approved: Roster
) -> SecretContext | None:
    """The key in one wrap. None if its maker was not approved here, or it does not open: another may.

    The refusal names the maker: who passes on a key that is none keeps a member out, by mistake or on purpose.
    """
    site, author = desk.site, _author(source)
    if not _approved(desk, author, approved):
        return None
    try:
        listed = record if isinstance(source.message, EpochRecord) else check_addition(source, record, approved)
        wraps = listed.wraps if isinstance(listed, EpochRecord) else (listed.wrap,)
        name = next(wrap.sha256 for wrap in wraps if wrap.recipient == site.me)
        secret = epochs.unwrap(site.identity, site.me, listed, site.client.get_key(desk.study.id, name))
        secret.check_pair(public)
    except (CryptoError, Problem) as error:
        words = (
            f"{_named(author, approved)} passed on a key of epoch {record.epoch} that is none here: {error}; "
            "another member's is awaited. Ask there, should it happen again"
        )
        desk.refuse(Refused("wrap-refused", words), source.message.digest)
        return None
    return secret


def _author(source: Source) -> UUID:
    return source.message.dealer if isinstance(source.message, EpochRecord) else source.message.holder


def _named(site: UUID, approved: Roster) -> str:
    member = approved.member(site)
    return member.name if member else str(site)


def _approved(desk: Desk, maker: UUID, approved: Roster) -> bool:
    if approved.member(maker) is not None:
        return True
    words = (
        f"the study's key was made or passed on by {maker}, which was not approved here with its present keys. "
        f"If it is a hospital that you know, compare words, then: pleura-participant approve {desk.study.id} {maker}"
    )
    desk.refuse(Refused("key-of-a-stranger", words), sha256(maker.bytes + desk.study.id.bytes))
    return False


def _acknowledge(desk: Desk, epoch: EpochState, record: EpochRecord) -> None:
    """Say that this site holds the key, until the coordinator knows it: no other wrap is made for it then."""
    me, said = desk.site.me, {each.message.holder for each in epoch.additions if each.message.acknowledges}
    if me in said or me == record.dealer:
        return
    try:
        desk.site.client.add_wrap(desk.study.id, epochs.acknowledge(desk.site.identity, me, record))
    except Problem as problem:
        desk.say_once(f"the coordinator did not take that this site holds the key: {problem.detail}")


def _is_my_turn(desk: Desk, epoch: EpochState, record: EpochRecord, member: UUID) -> bool:
    """Holders pass the key on one at a time, in an order of their own for each member, by the clock.

    One that made a wrap for the member before has no turn: if its wrap did not open, its next would hardly.
    """
    additions = [each.message for each in epoch.additions]
    recorded = {wrap.recipient for wrap in record.wraps}
    holders = recorded | {each.holder for each in additions if each.acknowledges} | {desk.site.me}
    tried = {each.holder for each in additions if each.wrap.recipient == member}
    tried |= {member} | ({record.dealer} if member in recorded else set())
    seed = bytes.fromhex(record.digest) + member.bytes
    order = sorted(holders - tried, key=lambda holder: hashlib.sha256(seed + holder.bytes).digest())
    return bool(order) and order[int(desk.site.clock() / TURN_SECONDS) % len(order)] == desk.site.me


def _extend(desk: Desk, record: EpochRecord, lacking: UUID, approved: Roster) -> None:
    """Pass the key on to a member that this site approved."""
    site, member = desk.site, approved.member(lacking)
    if member is None:
        return  # said by tend_peers
    try:
        addition, wrap = epochs.extend(
            site.identity, site.me, record, site.keyring.secret(desk.study.id, record.digest), member
        )
        site.client.put_key(desk.study.id, "wrap", wrap)
        site.client.add_wrap(desk.study.id, addition)
    except (CryptoError, Problem) as error:
        desk.say(f"the key was not passed on to {member.name}: {error}", logging.WARNING)
        return
    desk.note("key-passed-on", epoch=record.epoch, record=record.digest, site=str(lacking), name=member.name)
    desk.say(f"passed the key of epoch {record.epoch} on to {member.name}")
