"""Key epochs of a study: who deals the next key, the record of the current one, and wraps for newcomers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.errors import Conflict, EpochExists, MessageRefused, NotFound, PartsMissing
from coordinator.rounds.planning import mutually_approved
from coordinator.store import audit, memberships, tables
from coordinator.store.tables import Epoch, KeyBlob, Site, Study
from crypto.epoch import EpochRecord, WrapAddition
from crypto.identity import PublicIdentity, verify
from crypto.wire import Signed


def current(session: Session, study: UUID) -> Epoch | None:
    """The epoch that plans are made with, if its key was not given up."""
    latest = session.scalar(select(Epoch).where(Epoch.study_id == study).order_by(Epoch.number.desc()).limit(1))
    return latest if latest is not None and latest.retired is None else None


def retire(session: Session, study: UUID, now: float) -> None:
    """Give up the current key, because a holder of it left or was suspended. A running attempt still ends with it."""
    epoch = current(session, study)
    if epoch is not None:
        epoch.retired = now


def next_number(session: Session, study: UUID) -> int:
    return 1 + (session.scalar(select(func.max(Epoch.number)).where(Epoch.study_id == study)) or 0)


def additions(session: Session, epoch: Epoch) -> list[tables.WrapAddition]:
    """Wraps made for newcomers since the record, by recipient."""
    found = session.scalars(
        select(tables.WrapAddition).where(
            tables.WrapAddition.study_id == epoch.study_id, tables.WrapAddition.epoch == epoch.number
        )
    )
    return sorted(found, key=lambda row: row.recipient.bytes)


def holders(session: Session, epoch: Epoch) -> set[UUID]:
    """Sites that were given the epoch's key."""
    recorded = {UUID(wrap["recipient"]) for wrap in epoch.record["message"]["wraps"]}
    return recorded | {row.recipient for row in additions(session, epoch)}


def summary(session: Session, study: Study, now: float, recent_seconds: float) -> dict[str, Any]:
    """What `GET .../epoch` answers, with digests and numbers in place of the messages: cheap, and tells any change."""
    epoch = current(session, study.id)
    if epoch is None:
        number, dealer = next_number(session, study.id), asked_dealer(session, study, now, recent_seconds)
        asked = str(dealer) if dealer else None
        return {"state": "none", "number": number, "dealer": asked, "record": None, "additions": 0, "missing": []}
    held = holders(session, epoch)
    return {
        "state": "current",
        "number": epoch.number,
        "dealer": None,
        "record": epoch.record_digest,
        "additions": len(additions(session, epoch)),
        "missing": [str(site.id) for _, site in memberships.members(session, study.id) if site.id not in held],
    }


def view(session: Session, study: Study, now: float, recent_seconds: float) -> dict[str, Any]:
    """What `GET .../epoch` answers (docs/wire.md)."""
    epoch = current(session, study.id)
    signed = {
        "record": epoch.record if epoch else None,
        "additions": [row.signed for row in additions(session, epoch)] if epoch else [],
    }
    return summary(session, study, now, recent_seconds) | signed


def asked_dealer(session: Session, study: Study, now: float, recent_seconds: float) -> UUID | None:
    """The member asked to make the next key: the lowest id among those that a plan would be made with.

    A dealer that vanishes is not seen lately any more, and the question passes on.
    """
    return min(_may_deal(session, study, now, recent_seconds), key=lambda site: site.bytes, default=None)


def _may_deal(session: Session, study: Study, now: float, recent_seconds: float) -> frozenset[UUID]:
    """Members seen lately that all approved each other, once there are enough of them for a plan."""
    present = [
        candidate
        for candidate in memberships.candidates(session, study.id)
        if now - candidate.last_seen <= recent_seconds
    ]
    group = mutually_approved(present)
    needed = max(study.minimum_contributors, (study.expected_sites or 0) if study.completed == 0 else 0)
    if study.state in ("finished", "stopped") or len(group) < needed:
        return frozenset()
    return frozenset(candidate.member.site for candidate in group)


def publish(
    session: Session, study: Study, site: Site, signed: Signed[EpochRecord], now: float, recent_seconds: float
) -> None:
    """Make a dealt key the study's current one. The caller has checked that the context in it is a public one.

    Raises:
        EpochExists: there is a current epoch, or another number is next.
        Conflict: too few members are here that all approved each other, or the site is not among them.
        PartsMissing: the context, or a wrap that the record lists, was not stored.
        MessageRefused: another study's, another dealer's, or with a recipient that is no member.
        InvalidSignature: not signed by the site.
    """
    record = verify(PublicIdentity.from_hex(site.signing_key, site.hpke_key), signed)
    if (record.study, record.dealer) != (study.id, site.id):
        raise MessageRefused("The epoch record names another study, or another dealer than the site that sends it.")
    existing = current(session, study.id)
    if existing is not None and existing.record_digest == record.digest:
        return
    if existing is not None or record.epoch != next_number(session, study.id):
        raise EpochExists(
            "The study has a current key epoch, or the record's number is not the next. Fetch the epoch again.",
            {"number": next_number(session, study.id)},
        )
    if site.id not in _may_deal(session, study, now, recent_seconds):
        raise Conflict(
            "This site is not asked to deal the key: too few members are here, or they have not approved each other."
        )
    _check_stored(session, study.id, [record.context, *(wrap.sha256 for wrap in record.wraps)])
    _check_recipients(session, study.id, {wrap.recipient for wrap in record.wraps})
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


def extend(session: Session, study: Study, site: Site, signed: Signed[WrapAddition], now: float) -> None:
    """Add a newcomer's wrap, made by a holder of the key. The first one for a newcomer stays.

    Raises:
        NotFound: there is no current epoch.
        MessageRefused: to another record, by another site, or by one that was not given the key.
        PartsMissing: the wrap was not stored.
        InvalidSignature: not signed by the site.
    """
    addition = verify(PublicIdentity.from_hex(site.signing_key, site.hpke_key), signed)
    epoch = current(session, study.id)
    if epoch is None:
        raise NotFound("The study has no current key epoch.")
    held = holders(session, epoch)
    if addition.epoch != epoch.record_digest or addition.holder != site.id or site.id not in held:
        raise MessageRefused("The addition is to another epoch record, or its sender does not hold this epoch's key.")
    if addition.wrap.recipient in held:
        return
    _check_stored(session, study.id, [addition.wrap.sha256])
    _check_recipients(session, study.id, {addition.wrap.recipient})
    session.add(
        tables.WrapAddition(
            study_id=study.id,
            epoch=epoch.number,
            recipient=addition.wrap.recipient,
            signed=signed.to_json(),
            received=now,
        )
    )
    detail = {"study": str(study.id), "epoch": epoch.number, "recipient": str(addition.wrap.recipient)}
    audit.append(session, now, f"site:{site.id}", "epoch.wrap-added", detail)


def stored_key(session: Session, study: UUID, sha256: str) -> KeyBlob | None:
    return session.get(KeyBlob, (study, sha256))


def note_key(session: Session, study: UUID, sha256: str, size: int, site: UUID, now: float) -> None:
    """Note that a public context or a wrap lies in the blob store."""
    if stored_key(session, study, sha256) is None:
        session.add(KeyBlob(study_id=study, sha256=sha256, size=size, site_id=site, stored=now))


def _check_stored(session: Session, study: UUID, digests: list[str]) -> None:
    missing = [sha256 for sha256 in digests if stored_key(session, study, sha256) is None]
    if missing:
        raise PartsMissing(
            f"{len(missing)} of the blobs it lists are not here. Send them first (PUT .../keys/SHA-256).",
            {"missing": missing},
        )


def _check_recipients(session: Session, study: UUID, recipients: set[UUID]) -> None:
    strangers = recipients - {site.id for _, site in memberships.members(session, study)}
    if strangers:
        raise MessageRefused(
            "A wrap is for a site that is no active member. Fetch the roster again.",
            {"strangers": sorted(map(str, strangers))},
        )
