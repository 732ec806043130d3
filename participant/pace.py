"""How fast this site sends: a hospital's line has other work, too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_BURST: Final = 1.0  # seconds' worth of octets that may leave at once after a rest
_LARGEST: Final = 65_536  # octets handed to the connection at a time
_A_SECOND: Final = 4  # such pieces, so that a slow line is never silent for long: proxies give up on one that is


class Pace:
    """A token bucket that all uploads of a site draw from.

    Args:
        rate: octets a second.
        clock: seconds that never go back.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._lock = threading.Lock()
        self._due = clock() - _BURST  # when all that left so far would have left at the rate
        self.piece = max(1, min(_LARGEST, rate // _A_SECOND))

    def take(self, octets: int) -> float:
        """Seconds to wait before so many octets leave."""
        with self._lock:
            now = self._clock()
            self._due = max(self._due, now - _BURST) + octets / self._rate
            return max(0.0, self._due - now)


@dataclass(frozen=True)
class PacedBody:
    """A request's body that is read no faster than its pace. It may be read again, from the start.

    Args:
        pause: waits that many seconds; may raise to give up.
    """

    content: bytes
    pace: Pace
    pause: Callable[[float], None]

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self.content), self.pace.piece):
            piece = self.content[start : start + self.pace.piece]
            if (wait := self.pace.take(len(piece))) > 0:
                self.pause(wait)
            yield piece
