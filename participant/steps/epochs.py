"""The study's key: deal it when asked, hold it, pass it on to approved newcomers."""

from __future__ import annotations

import logging
from http import HTTPStatus
from uuid import UUID

from crypto import epochs
from crypto.checks import check_addition
from crypto.epoch import EpochRecord, WrapAddition
from crypto.errors import CryptoError
from crypto.plan import Roster
from crypto.wire import Signed
from participant.documents import EpochState
from participant.session import Problem
from participant.steps.desk import Desk


def tend_key(desk: Desk, epoch: EpochState, approved: Roster) -> None:
    """Do what the epoch's state asks of this site.

    Args:
        approved: the members that this site approved, itself included.
    """
    if epoch.record is None:
        if epoch.dealer == desk.site.me:
            _deal(desk, epoch.number, approved)
        return
    try:
        held = _hold(desk, epoch, epoch.record, approved)
    except CryptoError as error:
        desk.refuse(error, epoch.record.message.digest)
        return
    for newcomer in epoch.missing if held else ():
        _extend(desk, epoch.record.message, newcomer, approved)


def _deal(desk: Desk, number: int, approved: Roster) -> None:
    """Make a key for the approved members; those approved later are given it as newcomers."""
    site, study = desk.site, desk.study.id
    dealt = epochs.deal(site.identity, site.me, study, number, approved)
    site.client.put_key(study, "public-context", dealt.public_context)
    for wrap in dealt.wraps.values():
        site.client.put_key(study, "wrap", wrap)
    try:
        site.client.put_epoch(dealt.record)
    except Problem as problem:
        if problem.status != HTTPStatus.CONFLICT:
            raise
        desk.say(f"the key was not needed any more: {problem.detail}")
        return
    site.keyring.keep(dealt.record.message.digest, dealt.secret, dealt.public_context)
    desk.say(f"dealt the key of epoch {number} to {len(dealt.wraps)} sites")


def _hold(desk: Desk, epoch: EpochState, signed: Signed[EpochRecord], approved: Roster) -> bool:
    """Fetch and open this site's wrap, once. False while there is none, or while its sender is not approved here."""
    site, record = desk.site, signed.message
    if site.keyring.holds(record.digest):
        return True
    source = _source(signed, epoch.additions, site.me)
    if source is None:
        desk.say_once("waiting for a member to pass on the study's key")
        return False
    author = source.message.dealer if isinstance(source.message, EpochRecord) else source.message.holder
    for needed in {record.dealer, author}:
        if approved.member(needed) is None:
            desk.say_once(
                f"the study's key was made or passed on by {needed}, which was not approved here", logging.WARNING
            )
            return False
    published = site.client.get_key(desk.study.id, record.context)
    record, public = epochs.accept(signed, published, approved)
    wrapped_by = record if isinstance(source.message, EpochRecord) else check_addition(source, record, approved)
    wraps = wrapped_by.wraps if isinstance(wrapped_by, EpochRecord) else (wrapped_by.wrap,)
    name = next(wrap.sha256 for wrap in wraps if wrap.recipient == site.me)
    secret = epochs.unwrap(site.identity, site.me, wrapped_by, site.client.get_key(desk.study.id, name))
    secret.check_pair(public)
    site.keyring.keep(record.digest, secret, published)
    desk.note("key-received", epoch=record.epoch, sender=str(author))
    desk.say(f"holds the key of epoch {record.epoch}")
    return True


def _source(
    signed: Signed[EpochRecord], additions: tuple[Signed[WrapAddition], ...], me: UUID
) -> Signed[EpochRecord] | Signed[WrapAddition] | None:
    """What lists this site's wrap."""
    if any(wrap.recipient == me for wrap in signed.message.wraps):
        return signed
    return next((addition for addition in additions if addition.message.wrap.recipient == me), None)


def _extend(desk: Desk, record: EpochRecord, newcomer: UUID, approved: Roster) -> None:
    """Pass the key on; all holders try, the coordinator keeps the first wrap."""
    site, member = desk.site, approved.member(newcomer)
    if member is None:
        return  # said by tend_peers
    addition, wrap = epochs.extend(site.identity, site.me, record, site.keyring.secret(record.digest), member)
    try:
        site.client.put_key(desk.study.id, "wrap", wrap)
        site.client.add_wrap(desk.study.id, addition)
    except Problem as problem:
        desk.say(f"the key was not passed on to {member.name}: {problem.detail}")
        return
    desk.say(f"passed the study's key on to {member.name}")
