"""Public CKKS contexts of key epochs. Each is loaded once: a context starts a pool of threads."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.store.blobs import Blobs, study_key
from coordinator.store.database import Store
from coordinator.store.tables import Epoch
from crypto.ckks_public import PublicContext
from crypto.plan import Plan


def context_of(store: Store, blobs: Blobs, plan: Plan) -> PublicContext | None:
    """The context that contributions to a plan are encrypted under; None where its scheme has none."""
    if plan.epoch is None:
        return None

    def find(session: Session) -> str:
        return session.scalars(select(Epoch.context_digest).where(Epoch.record_digest == plan.epoch)).one()

    return _load(blobs, plan.study, store.read("find context", find))


@lru_cache(maxsize=8)
def _load(blobs: Blobs, study: UUID, digest: str) -> PublicContext:
    return PublicContext.load(blobs.read(study_key(study, digest)))
