"""What an attempt never changes, parsed once: every request of every member asks for it again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from coordinator.store.tables import Round
from crypto.manifest import Ballot
from crypto.plan import Plan, Roster

V = TypeVar("V")

_KEPT: Final = 4  # of a kind; attempts of several studies may be under way at once


class Kept(Generic[V]):
    """Values by the digest of what they were made from; the one that was not asked for longest is forgotten."""

    def __init__(self, size: int) -> None:
        self._size, self._values = size, OrderedDict[str, V]()
        self._lock = threading.Lock()

    def get(self, digest: str, make: Callable[[], V]) -> V:
        with self._lock:
            if digest in self._values:
                self._values.move_to_end(digest)
                return self._values[digest]
        value = make()
        with self._lock:
            self._values[digest] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return value


_plans: Final = Kept[Plan](_KEPT)
_rosters: Final = Kept[Roster](_KEPT)
_ballots: Final = Kept[Ballot](_KEPT)


def plan_of(row: Round) -> Plan:
    """The attempt's plan."""
    return _plans.get(row.plan_digest, lambda: Plan.from_json(row.plan))


def roster_of(row: Round) -> Roster:
    """The roster that its plan was made for."""
    return _rosters.get(row.plan["roster"], lambda: Roster.from_json(row.roster))


def ballot_of(row: Round) -> Ballot:
    """Its ballot; the attempt is closed."""
    return _ballots.get(row.ballot_digest or "", lambda: Ballot.from_json(row.ballot))
