"""Who this coordinator is: an id made once, which sites address their tokens to."""

from __future__ import annotations

from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from coordinator.store.tables import Instance


def coordinator_id(session: Session) -> UUID:
    """The coordinator's id; made at the first call, so call it in a writing transaction."""
    row = session.get(Instance, 1)
    if row is None:
        row = Instance(id=1, coordinator=uuid4())
        session.add(row)
        session.flush()
    return row.coordinator
