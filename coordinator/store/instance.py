"""Who this coordinator is: an id made once, which sites address their tokens to, and the blob store that is its own."""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from coordinator.store import references
from coordinator.store.blobs import Blobs, probe_key
from coordinator.store.database import Store
from coordinator.store.tables import Instance

_NOT_THERE: Final = "what the database refers to is not in it"


class WrongBlobs(Exception):
    """The blob store is not the one that belongs to the database."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"This blob store is not the one that belongs to the database: {why}. Check database_url, data_dir, "
            "blobs_url and blobs_options: every replica needs the same. If the database or the blobs are lost, restore "
            "a backup."
        )


def coordinator_id(session: Session) -> UUID:
    """The coordinator's id; made at the first call, so call it in a writing transaction."""
    row = session.get(Instance, 1)
    if row is None:
        row = Instance(id=1, coordinator=uuid4())
        session.add(row)
        session.flush()
    return row.coordinator


def check_blobs(store: Store, blobs: Blobs) -> None:
    """Raise WrongBlobs unless database and blob store belong together; a new pair is joined for good.

    A database without a blob store of its own is new, or older than this check: it takes the one at hand if that has
    something that it refers to, or it refers to nothing and nothing is there. A new one would have all else deleted.
    """
    belongs = store.read("find blob store", lambda session: session.get_one(Instance, 1).blobs)
    if belongs is None:
        belongs = _join(store, blobs)
    if not blobs.exists(probe_key(belongs)):
        raise WrongBlobs(_NOT_THERE)


def _join(store: Store, blobs: Blobs) -> UUID:
    """The id of the database's blob store: this one, unless another replica joined its own at the same moment."""
    empty = blobs.is_empty()  # looked up first: whatever a replica of ours has put there, it had joined it before
    belongs, known = store.read("find blobs", lambda s: (s.get_one(Instance, 1).blobs, references.all_blobs(s)))
    if belongs is not None:
        return belongs
    if known and not any(map(blobs.exists, known)):
        raise WrongBlobs(_NOT_THERE)
    if not known and not empty:
        raise WrongBlobs("the database is new, and the blob store holds another one's blobs")
    chosen = uuid4()
    blobs.put_bytes(probe_key(chosen), b"")  # first, as whoever is killed in between has then joined nothing

    def join(session: Session) -> UUID:
        row = session.get_one(Instance, 1)
        row.blobs = row.blobs or chosen
        return row.blobs

    return store.run("join blob store", join)
