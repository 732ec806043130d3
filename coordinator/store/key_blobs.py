"""Public contexts and wraps that members stored, by their SHA-256: how many each may store, and when they go."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from coordinator.errors import KeyLimit, PartsMissing
from coordinator.store import memberships
from coordinator.store.tables import KeyBlob

DEALS: Final = 4  # a dealer stores a context and a wrap for each member; so often may it begin anew
BLOB_BYTES: Final = 2**18  # a context has 118,000 bytes, a wrap 61,000


def find(session: Session, study: UUID, sha256: str) -> KeyBlob | None:
    return session.get(KeyBlob, (study, sha256))


def check_room(session: Session, study: UUID, site: UUID, size: int) -> None:
    """Raise if one more blob of that many bytes is more than a member may store.

    Raises:
        KeyLimit: too many, or too many bytes.
    """
    most = DEALS * (1 + len(memberships.seen(session, study)))
    query = select(func.count(), func.coalesce(func.sum(KeyBlob.size), 0))
    number, total = session.execute(query.where(KeyBlob.study_id == study, KeyBlob.site_id == site)).one()
    stored = int(total)  # PostgreSQL's sum of big integers is a Decimal
    if number < most and stored + size <= most * BLOB_BYTES:
        return
    raise KeyLimit(
        f"This site has stored {number} key blobs of {stored:,} bytes in this study, and {size:,} bytes more are over "
        f"the limit of {most} blobs and {most * BLOB_BYTES:,} bytes. They go when the study's next key is published; "
        "until then another member can deal it, or pass it on.",
        {"blobs": number, "bytes": stored, "most_blobs": most, "most_bytes": most * BLOB_BYTES},
    )


def note(session: Session, study: UUID, sha256: str, size: int, site: UUID, now: float) -> None:
    """Note that a public context or a wrap lies in the blob store.

    Raises:
        KeyLimit: other blobs of the site came in meanwhile.
    """
    if find(session, study, sha256) is None:
        check_room(session, study, site, size)
        session.add(KeyBlob(study_id=study, sha256=sha256, size=size, site_id=site, stored=now))


def check_stored(session: Session, study: UUID, digests: list[str]) -> None:
    """Raise unless all of them are here.

    Raises:
        PartsMissing: listing the others.
    """
    missing = [sha256 for sha256 in digests if find(session, study, sha256) is None]
    if missing:
        raise PartsMissing(
            f"{len(missing)} of the blobs it lists are not here. Send them first (PUT .../keys/SHA-256).",
            {"missing": missing},
        )


def forget_others(session: Session, study: UUID, kept: Collection[str]) -> list[str]:
    """Forget all of the study's blobs but these; returns the SHA-256 of those that may be deleted."""
    others = select(KeyBlob.sha256).where(KeyBlob.study_id == study, KeyBlob.sha256.not_in(kept))
    forgotten = list(session.scalars(others))
    session.execute(delete(KeyBlob).where(KeyBlob.study_id == study, KeyBlob.sha256.in_(forgotten)))
    return forgotten
