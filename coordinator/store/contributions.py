"""Contributions: parts one by one, then the manifest that makes them count.

Everything is idempotent: the same part or manifest again is answered like the first time, also when the attempt has
moved on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import (
    ManifestDiffers,
    ManifestRefused,
    NotAMember,
    NotFound,
    PartDiffers,
    PartsMissing,
    RoundClosed,
)
from coordinator.store import audit
from coordinator.store.tables import Contribution, Opening, Part, PartKind, Refusal, Round, Vote
from crypto import manifest as messages
from crypto.identity import PublicIdentity
from crypto.wire import Message, Signed

M = TypeVar("M", bound=Message)
Answer = TypeVar("Answer", Vote, Opening, Refusal)


@dataclass(frozen=True, slots=True)
class Place:
    """One part of one site's contribution to one attempt."""

    round_id: UUID
    site: UUID
    kind: PartKind
    number: int


def attempt(session: Session, study: UUID, number: int, attempt: int) -> Round:
    """The attempt.

    Raises:
        NotFound: there is none.
    """
    row = session.scalar(select(Round).where(Round.study_id == study, Round.number == number, Round.attempt == attempt))
    if row is None:
        raise NotFound(f"There is no round {number}, attempt {attempt}, in this study.")
    return row


def check_on_roster(row: Round, site: UUID) -> PublicIdentity:
    """The keys with which the plan's roster lists the site.

    Raises:
        NotAMember: it is not on it.
    """
    member = next((member for member in row.roster["members"] if member["site"] == str(site)), None)
    if member is None:
        raise NotAMember("This site is not on the roster of this plan. It may be on the next one's.")
    return PublicIdentity.from_hex(member["signing_key"], member["hpke_key"])


def check_may_contribute(row: Round, site: UUID) -> None:
    """Raise unless the plan asks the site for a contribution and the attempt still takes one.

    Raises:
        NotAMember: the plan does not expect it.
        RoundClosed: too late; the detail says since when, and what happens next.
    """
    if str(site) not in row.plan["expected"]:
        raise NotAMember("The plan does not ask this site for a contribution.")
    if row.state != "collecting":
        raise _closed(row)


def _closed(row: Round) -> RoundClosed:
    moment = row.closed or row.ended or 0.0
    spoken = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return RoundClosed(
        f"Round {row.number}, attempt {row.attempt}, takes no contributions since {spoken}; it is {row.state}. "
        "Drop this contribution, keep its update local, and wait for the next plan (GET .../task).",
        {"closed": moment, "state": row.state},
    )


def find_part(session: Session, place: Place) -> Part | None:
    return session.get(Part, (place.round_id, place.site, place.kind, place.number))


def already_there(session: Session, place: Place, digest: str) -> bool:
    """Whether this very part is in.

    Raises:
        PartDiffers: another one is, under this number.
    """
    row = find_part(session, place)
    if row is not None and row.digest != digest:
        raise PartDiffers(
            f"Part {place.number} was delivered before with other bytes. One attempt takes one contribution: "
            "send the stored bytes again, or sit this attempt out.",
            {"sha256": row.digest},
        )
    return row is not None


def note_part(session: Session, place: Place, digest: str, size: int) -> None:
    """Note a part that lies in the blob store.

    Raises:
        PartDiffers, RoundClosed, NotAMember: it came to nothing meanwhile.
    """
    row = session.get_one(Round, place.round_id)
    if already_there(session, place, digest):
        return
    check_may_contribute(row, place.site)
    contribution = session.get(Contribution, (place.round_id, place.site))
    if contribution is None:
        contribution = Contribution(
            round_id=place.round_id, site_id=place.site, manifest=None, completed=None, received=0
        )
        session.add(contribution)
        session.flush()
    contribution.received += size
    add_part(session, place, digest, size)


def add_part(session: Session, place: Place, digest: str, size: int) -> None:
    """The row of a part that lies in the blob store."""
    where = {"round_id": place.round_id, "site_id": place.site, "kind": place.kind, "number": place.number}
    session.add(Part(**where, digest=digest, size=size))


def delivered(session: Session, row: Round, site: UUID) -> dict[str, Any]:
    """What `GET .../parts` answers (docs/wire.md)."""
    parts = _digests(session, row.id, site)
    contribution = session.get(Contribution, (row.id, site))
    return {
        "parts": {str(number): digest for (kind, number), digest in parts.items() if kind == "body"},
        "key_parts": {str(number): digest for (kind, number), digest in parts.items() if kind == "key"},
        "manifest": contribution is not None and contribution.completed is not None,
    }


def _digests(session: Session, round_id: UUID, site: UUID) -> dict[tuple[str, int], str]:
    rows = session.scalars(select(Part).where(Part.round_id == round_id, Part.site_id == site).order_by(Part.number))
    return {(row.kind, row.number): row.digest for row in rows}


def complete(session: Session, row: Round, parts: int, signed: Signed[messages.Manifest], now: float) -> None:
    """Count a contribution in: its manifest was verified (`crypto.checks`), and every part it lists has to be here.

    Args:
        parts: how many a contribution to this plan has.

    Raises:
        ManifestDiffers: another manifest was counted for this plan.
        ManifestRefused: the wrong number of parts.
        PartsMissing: listing them; a part whose bytes differ from the manifest's counts as missing.
        RoundClosed, NotAMember: too late, or not asked.
    """
    manifest = signed.message
    contribution = session.get(Contribution, (row.id, manifest.site))
    if contribution is not None and contribution.manifest is not None:
        if Signed[messages.Manifest].from_json(contribution.manifest).message.digest != manifest.digest:
            raise ManifestDiffers("Another manifest of this site was counted for this plan; that one stays.")
        return
    check_may_contribute(row, manifest.site)
    if len(manifest.parts) != parts:
        raise ManifestRefused(
            f"A contribution to this plan has {parts} parts; this manifest lists {len(manifest.parts)}."
        )
    _check_delivered(_digests(session, row.id, manifest.site), manifest)
    assert contribution is not None  # noqa: S101 - its parts are here
    contribution.manifest, contribution.completed = signed.to_json(), now
    detail = {"manifest": manifest.digest, "bytes": contribution.received}
    log(session, row, manifest.site, "contribution.complete", detail, now)


def _check_delivered(here: dict[tuple[str, int], str], manifest: messages.Manifest) -> None:
    missing = _absent(here, "body", manifest.parts)
    missing_keys = _absent(here, "key", manifest.key_parts)
    if missing or missing_keys:
        raise PartsMissing(
            f"{len(missing)} parts and {len(missing_keys)} key parts that the manifest lists are not here. "
            "Send them, then the manifest again.",
            {"parts": missing, "key_parts": missing_keys},
        )


def _absent(here: dict[tuple[str, int], str], kind: PartKind, digests: Sequence[str]) -> list[int]:
    return [number for number, digest in enumerate(digests) if here.get((kind, number)) != digest]


def log(session: Session, row: Round, site: UUID, action: str, detail: dict[str, Any], now: float) -> None:
    """Add to the audit log what a site did in an attempt."""
    place = {"study": str(row.study_id), "round": row.number, "attempt": row.attempt}
    audit.append(session, now, f"site:{site}", action, {**place, **detail})
