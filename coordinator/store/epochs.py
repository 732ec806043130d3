"""Key epochs of a study: who deals the next key, the record of the current one, and wraps for those who lack it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from coordinator.errors import Conflict, EpochExists, MessageRefused, NotFound
from coordinator.rounds.planning import mutually_approved
from coordinator.store import attempts, audit, key_blobs, memberships, tables
from coordinator.store.tables import Approval, Epoch, Site, Study
from crypto.epoch import EpochRecord, WrapAddition
from crypto.identity import PublicIdentity, verify
from crypto.wire import Signed

DEAL_SECONDS: Final = 60.0  # a member that is asked to deal has so long until the next one is asked
WRAP_SECONDS: Final = 60.0  # a member that is here and has opened no wrap for so long is passed another one
WRAPS_KEPT: Final = 4  # wraps of different holders for one member, beside the dealer's


def current(session: Session, study: UUID) -> Epoch | None:
    """The epoch that plans are made with, if its key was not given up."""
    latest = session.scalar(select(Epoch).where(Epoch.study_id == study).order_by(Epoch.number.desc()).limit(1))
    return latest if latest is not None and latest.retired is None else None


def retire(session: Session, study: UUID, now: float, actor: str, reason: str) -> None:
    """Give up the current key: a holder left, was suspended or has new keys. A running attempt still ends with it."""
    epoch = current(session, study)
    if epoch is not None:
        epoch.retired = now
        detail = {"study": str(study), "epoch": epoch.number, "reason": reason}
        audit.append(session, now, actor, "epoch.retired", detail)


def next_number(session: Session, study: UUID) -> int:
    return 1 + (session.scalar(select(func.max(Epoch.number)).where(Epoch.study_id == study)) or 0)


class Given(NamedTuple):
    """One addition to an epoch's record, without the signed words. Who gives to itself says that it opened a wrap."""

    recipient: UUID
    holder: UUID
    received: float


def additions(session: Session, epoch: Epoch, recipient: UUID | None = None) -> list[tables.WrapAddition]:
    """Wraps made since the record, and the word of those who opened one; by recipient, oldest first."""
    query = select(tables.WrapAddition).where(_of(epoch))
    if recipient is not None:
        query = query.where(tables.WrapAddition.recipient == recipient)
    return sorted(session.scalars(query), key=lambda row: (row.recipient.bytes, row.received, row.holder.bytes))


def _given(session: Session, epoch: Epoch) -> list[Given]:
    """All additions; what was signed stays in the database, as there may be one of every member."""
    row = tables.WrapAddition
    found = session.execute(select(row.recipient, row.holder, row.received).where(_of(epoch)))
    return [Given(*columns) for columns in found]


def _of(epoch: Epoch) -> ColumnElement[bool]:
    row = tables.WrapAddition
    return and_(row.study_id == epoch.study_id, row.epoch == epoch.number)


def holders(session: Session, epoch: Epoch) -> set[UUID]:
    """Sites that were dealt the epoch's key, and newcomers that opened a wrap of it."""
    return _recorded(epoch) | _acknowledged(_given(session, epoch))


def missing(session: Session, epoch: Epoch, now: float, recent_seconds: float) -> list[UUID]:
    """Members that a holder should pass the key on to.

    They were given no wrap, or are here and did not say that they opened one: the first may be no good, and it must
    not be one holder's choice whether a member takes part.
    """
    if not memberships.lacking(session, epoch):
        return []
    rows, recorded = _given(session, epoch), _recorded(epoch)
    content = _acknowledged(rows) | {epoch.dealer}
    received: dict[UUID, list[float]] = defaultdict(list)
    for row in rows:
        received[row.recipient].append(row.received)
    found = []
    for site, last_seen in memberships.seen(session, epoch.study_id):
        given = received.get(site, [])
        latest = max(given + [epoch.created] * (site in recorded), default=None)
        here = now - last_seen <= recent_seconds
        again = latest is not None and here and now - latest > WRAP_SECONDS and len(given) < WRAPS_KEPT
        if site not in content and (latest is None or again):
            found.append(site)
    return found


def summary(session: Session, study: Study, now: float, recent_seconds: float) -> dict[str, Any]:
    """What `GET .../epoch` answers, with digests and numbers in place of the messages: cheap, and tells any change."""
    epoch = current(session, study.id)
    if epoch is None:
        number, dealer = next_number(session, study.id), asked_dealer(session, study, now, recent_seconds)
        asked = str(dealer) if dealer else None
        return {"state": "none", "number": number, "dealer": asked, "record": None, "additions": 0, "missing": []}
    return {
        "state": "current",
        "number": epoch.number,
        "dealer": None,
        "record": epoch.record_digest,
        "additions": session.scalar(select(func.count()).select_from(tables.WrapAddition).where(_of(epoch))) or 0,
        "missing": [str(site) for site in missing(session, epoch, now, recent_seconds)],
    }


def view(session: Session, study: Study, now: float, recent_seconds: float) -> dict[str, Any]:
    """What `GET .../epoch` answers (docs/wire.md)."""
    found = summary(session, study, now, recent_seconds)
    return signed(session, current(session, study.id), found, None)


def signed(session: Session, epoch: Epoch | None, found: dict[str, Any], site: UUID | None) -> dict[str, Any]:
    """A summary with the messages of its epoch in it.

    Args:
        site: leave out additions that do not concern this site. While members lack the key all do: by them holders
            know whose turn it is to pass it on.
    """
    only = site if not found["missing"] else None
    messages = {
        "record": epoch.record if epoch else None,
        "additions": [row.signed for row in additions(session, epoch, only)] if epoch else [],
    }
    return found | messages


def asked_dealer(session: Session, study: Study, now: float, recent_seconds: float) -> UUID | None:
    """The member asked to make the next key: those that a plan would be made with take turns, the lowest id first.

    One that vanished is not seen lately any more and has no turn; one that is here and deals nothing loses it.
    """
    ready = sorted(_may_deal(session, study, now, recent_seconds), key=lambda site: site.bytes)
    turn = int(max(0.0, now - _asked_since(session, study.id)) / DEAL_SECONDS)
    return ready[turn % len(ready)] if ready else None


def _asked_since(session: Session, study: UUID) -> float:
    """When a key was last given up, or a member last changed whom it approves."""
    retired = session.scalar(select(func.max(Epoch.retired)).where(Epoch.study_id == study)) or 0.0
    approved = session.scalar(select(func.max(Approval.received)).where(Approval.study_id == study)) or 0.0
    return max(retired, approved)


def _may_deal(session: Session, study: Study, now: float, recent_seconds: float) -> frozenset[UUID]:
    """Members seen lately that all approved each other, once there are enough of them for a plan that takes a key."""
    if study.scheme == "lwe-shamir" or study.state in ("finished", "stopped"):
        return frozenset()
    needed = max(study.minimum_contributors, (study.expected_sites or 0) if study.completed == 0 else 0)
    if memberships.approvals(session, study.id) < needed:  # what they say need not be read
        return frozenset()
    present = [
        candidate
        for candidate in memberships.candidates(session, study.id)
        if now - candidate.last_seen <= recent_seconds
    ]
    group = mutually_approved(present)
    return frozenset(candidate.member.site for candidate in group) if len(group) >= needed else frozenset()


def publish(
    session: Session, study: Study, site: Site, signed: Signed[EpochRecord], now: float, recent_seconds: float
) -> list[str]:
    """Make a dealt key the study's current one. The caller has checked that the context in it is a public one.

    Returns:
        SHA-256 of key blobs of former epochs: they are of no use any more, and the caller deletes them.

    Raises:
        EpochExists: there is a current epoch, or another number is next.
        Conflict: too few members are here that all approved each other, or the site is not among them.
        PartsMissing: the context, or a wrap that the record lists, was not stored.
        MessageRefused: another study's, another dealer's, or with a recipient that is no member with the keys that the
            dealer approved.
        InvalidSignature: not signed by the site.
    """
    record = verify(PublicIdentity.from_hex(site.signing_key, site.hpke_key), signed)
    if (record.study, record.dealer) != (study.id, site.id):
        raise MessageRefused("The epoch record names another study, or another dealer than the site that sends it.")
    existing = current(session, study.id)
    if existing is not None and existing.record_digest == record.digest:
        return []
    if existing is not None or record.epoch != next_number(session, study.id):
        raise EpochExists(
            "The study has a current key epoch, or the record's number is not the next. Fetch the epoch again.",
            {"number": next_number(session, study.id)},
        )
    if site.id not in _may_deal(session, study, now, recent_seconds):
        raise Conflict(
            "This site is not asked to deal the key: too few members are here, or they have not approved each other."
        )
    listed = [record.context, *(wrap.sha256 for wrap in record.wraps)]
    key_blobs.check_stored(session, study.id, listed)
    _check_recipients(session, study.id, site, {wrap.recipient for wrap in record.wraps})
    session.add(
        Epoch(
            study_id=study.id,
            number=record.epoch,
            record=signed.to_json(),
            record_digest=record.digest,
            context_digest=record.context,
            dealer=site.id,
            created=now,
            retired=None,
        )
    )
    detail = {"study": str(study.id), "epoch": record.epoch, "record": record.digest, "wraps": len(record.wraps)}
    audit.append(session, now, f"site:{site.id}", "epoch.dealt", detail)
    return key_blobs.forget_others(session, study.id, [*listed, *_in_use(session, study.id)])


def _in_use(session: Session, study: UUID) -> list[str]:
    """The public context that the attempt under way was planned with: it is encrypted under until that ends."""
    row = attempts.active(session, study)
    digest = row.plan["epoch"] if row is not None else None
    return list(session.scalars(select(Epoch.context_digest).where(Epoch.record_digest == digest)))


def extend(session: Session, study: Study, site: Site, signed: Signed[WrapAddition], now: float) -> None:
    """Take a holder's wrap for a member that lacks the key, or a member's word that it opened one.

    One wrap a holder and recipient stays, of `WRAPS_KEPT` holders at most, and none once the recipient has opened one.

    Raises:
        NotFound: there is no current epoch.
        MessageRefused: to another record, by another site, or by one that does not hold the key.
        PartsMissing: the wrap was not stored.
        InvalidSignature: not signed by the site.
    """
    addition = verify(PublicIdentity.from_hex(site.signing_key, site.hpke_key), signed)
    epoch = current(session, study.id)
    if epoch is None:
        raise NotFound("The study has no current key epoch.")
    if addition.epoch != epoch.record_digest or addition.holder != site.id:
        raise MessageRefused("The addition is to another epoch record, or names another holder than its sender.")
    rows, recipient = additions(session, epoch), addition.wrap.recipient
    given = {row.holder for row in rows if row.recipient == recipient}
    if recipient in _acknowledged(rows) or site.id in given:
        return
    if addition.acknowledges:
        _check_given(addition, epoch, given)
    else:
        if site.id not in _recorded(epoch) | _acknowledged(rows):
            raise MessageRefused("The addition's sender does not hold this epoch's key.")
        if len(given) >= WRAPS_KEPT:
            return
        key_blobs.check_stored(session, study.id, [addition.wrap.sha256])
        _check_recipients(session, study.id, site, {recipient})
    session.add(
        tables.WrapAddition(
            study_id=study.id,
            epoch=epoch.number,
            recipient=recipient,
            holder=site.id,
            signed=signed.to_json(),
            received=now,
        )
    )
    detail = {"study": str(study.id), "epoch": epoch.number, "recipient": str(recipient)}
    action = "epoch.key-opened" if addition.acknowledges else "epoch.wrap-added"
    audit.append(session, now, f"site:{site.id}", action, detail)


def _check_given(addition: WrapAddition, epoch: Epoch, given: set[UUID]) -> None:
    if addition.wrap.sha256 != epoch.context_digest or not (given or addition.holder in _recorded(epoch)):
        raise MessageRefused("This site says that it holds a key which nobody here has wrapped for it.")


def _recorded(epoch: Epoch) -> set[UUID]:
    return {UUID(wrap["recipient"]) for wrap in epoch.record["message"]["wraps"]}


def _acknowledged(rows: Iterable[Given | tables.WrapAddition]) -> set[UUID]:
    return {row.recipient for row in rows if row.holder == row.recipient}


def _check_recipients(session: Session, study: UUID, sender: Site, recipients: set[UUID]) -> None:
    """Wraps are for members with the keys that their sender says it approved: not for keys that a site had before."""
    approval = session.get(Approval, (study, sender.id))
    approved = {**(approval.signed["message"]["peers"] if approval else {}), str(sender.id): sender.fingerprint}
    fit = {site.id for _, site in memberships.members(session, study) if approved.get(str(site.id)) == site.fingerprint}
    if recipients - fit:
        raise MessageRefused(
            "A wrap is for a site that is no active member, or whose present keys its sender has not approved. "
            "Fetch the roster again, and send the approval (PUT .../approval) before the wrap.",
            {"strangers": sorted(map(str, recipients - fit))},
        )
