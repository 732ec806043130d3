"""What one of all replicas does now and then: whoever is first when it is due."""

from __future__ import annotations

from sqlalchemy.orm import Session

from coordinator.store.tables import Chore


def claim(session: Session, name: str, now: float, every: float) -> bool:
    """Whether the caller is to do it now: nobody has begun it for `every` seconds. Call it in a writing transaction."""
    row = session.get(Chore, name)
    if row is None:
        session.add(Chore(name=name, begun=now))
        return True
    if now - row.begun < every:
        return False
    row.begun = now
    return True
