"""So many in so long, of each address."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from participant.policy import Refused


class Rate:
    """At most `number` within `seconds`."""

    def __init__(self, number: int, seconds: float, clock: Callable[[], float]) -> None:
        self._number, self._seconds, self._clock = number, seconds, clock
        self._seen: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def take(self, visitor: str) -> None:
        """Count one more.

        Raises:
            Refused: it would be one too many; not counted.
        """
        now = self._clock()
        with self._lock:
            self._seen = {name: times for name, times in self._seen.items() if times[-1] > now - self._seconds}
            times = self._seen.setdefault(visitor, deque(maxlen=self._number))
            if len(times) == self._number and times[0] > now - self._seconds:
                minutes = max(1, round((times[0] + self._seconds - now) / 60))
                words = f"that was {self._number} within {round(self._seconds / 60)} minutes: try again in {minutes}"
                raise Refused("too-many", words)
            times.append(now)
