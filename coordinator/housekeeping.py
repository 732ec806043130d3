"""What is deleted once nobody can need it any more, and how much room the rest takes.

Parts and sums go when their attempt is swept. What this module deletes was left behind: an upload that broke off, or
one whose row was never written because the process ended in between.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final

from coordinator.clock import Clock
from coordinator.store import chores, references, sites
from coordinator.store.blobs import Blobs, Listed
from coordinator.store.database import Store
from coordinator.worker import Worker

AGE_SECONDS: Final = 24 * 3600.0  # from which a file that nothing refers to belongs to nobody
EVERY_SECONDS: Final = 3600.0
_LOOK_SECONDS: Final = 15.0
_OURS: Final = ("parts", "sums", "models", "keys", "sealed", "server")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    """Files of one kind, and their bytes."""

    files: int
    size: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What lies in the blob store, by kind, and the bytes that are free on its disk (None: the store does not tell)."""

    kinds: Mapping[str, Room]
    free: int | None


def usage(blobs: Blobs) -> Usage:
    """How much room everything takes now. It lists the whole store: `Housekeeper.usage` is the last hour's."""
    files: dict[str, list[int]] = defaultdict(list)
    for listed in blobs.everything():
        files[listed.key.partition("/")[0]].append(listed.size)
    return Usage({kind: Room(len(files[kind]), sum(files[kind])) for kind in _OURS}, blobs.free_bytes())


def sweep(store: Store, blobs: Blobs, clock: Clock, stopped: Callable[[], bool] = lambda: False) -> int | None:
    """Delete blobs that no row refers to and broken uploads, once they are a day old, and forget expired tokens. At
    most once an hour, by one of all replicas.

    Args:
        stopped: asked before each file; once it says so, the rest is left for the next time.

    Returns:
        How many files went; None if it was not this caller's turn.
    """
    now = clock.now()
    if not store.run("claim sweep", lambda session: chores.claim(session, "sweep", now, EVERY_SECONDS)):
        return None
    store.note("forget tokens", lambda session: sites.forget_tokens(session, now))
    old = [each for each in blobs.everything() if _is_old(each.modified, now) and _is_ours(each)]
    # Listed first, then asked: a row that is written in between is seen.
    needed = store.read("find blobs", references.all_blobs)
    under_way = tuple(f"{folder}/" for folder in store.read("find attempts", references.under_way))
    orphans = [each for each in old if each.key not in needed and not _belongs(each, under_way)]
    gone = [each for each in takewhile(lambda _: not stopped(), orphans) if blobs.delete_older(each)]
    if gone:
        log.info("deleted %d files of %d bytes that nothing refers to", len(gone), sum(each.size for each in gone))
    return len(gone)


def _is_ours(listed: Listed) -> bool:
    return listed.key.partition("/")[0] in _OURS


def _belongs(listed: Listed, under_way: tuple[str, ...]) -> bool:
    """Whether an attempt goes on to which this part is still being sent; a broken upload is no part."""
    return listed.finished and listed.key.startswith(under_way)


def clear_incoming(folder: Path, clock: Clock) -> None:
    """Delete uploads that broke off a day ago, in this replica's own folder."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # its upload ended at this moment
            if path.is_file() and _is_old(path.stat().st_mtime, clock.now()):
                path.unlink()


def _is_old(modified: float, now: float) -> bool:
    return now - modified > AGE_SECONDS


class Housekeeper(Worker):
    """Tidies up every hour, in a thread of its own. `usage` is what it last found, None before the first time."""

    def __init__(self, store: Store, blobs: Blobs, incoming: Path, clock: Clock) -> None:
        super().__init__("housekeeper")
        self._store, self._blobs, self._incoming, self._clock = store, blobs, incoming, clock
        self._due = float("-inf")
        self.usage: Usage | None = None

    def run(self) -> None:
        """Tidy up whenever it is due; told to stop, it leaves the rest of a sweep for the next time."""
        while not self._stop.is_set():
            self.tidy()
            self._stop.wait(_LOOK_SECONDS)

    def tidy(self) -> None:
        """What is due now; an error is logged, never fatal."""
        now = self._clock.now()
        if now < self._due:
            return
        self._due = now + EVERY_SECONDS
        try:
            sweep(self._store, self._blobs, self._clock, self._stop.is_set)
            if self._stop.is_set():
                return
            self.usage = usage(self._blobs)
            clear_incoming(self._incoming, self._clock)
        except Exception:
            log.exception("housekeeping failed; it is tried again in an hour")
