"""Models: rows here, files in the blob store."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.store.tables import Model


@dataclass(frozen=True, slots=True)
class Origin:
    """The round that made a model, and the model that it started from."""

    study: UUID
    round: int
    parent: str


def register(
    session: Session, digest: str, size: int, layout_digest: str, recipe_digest: str, now: float, origin: Origin | None
) -> Model:
    """The row of a model whose file is stored already; the one that is there if it was registered before.

    Args:
        origin: None for an uploaded first model.
    """
    row = session.get(Model, digest)
    if row is None:
        row = Model(
            digest=digest,
            size=size,
            layout_digest=layout_digest,
            recipe_digest=recipe_digest,
            created=now,
            study_id=origin.study if origin else None,
            round=origin.round if origin else None,
            parent=origin.parent if origin else None,
        )
        session.add(row)
        session.flush()
    return row


def find(session: Session, digest: str) -> Model | None:
    return session.get(Model, digest)
