"""Logins to the page: random ids in memory, so a restart logs everybody out."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from typing import Final

from coordinator.clock import Clock

_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class _Session:
    operator: str
    expires: float


class Sessions:
    """Who is logged in, by the id in the browser's cookie."""

    def __init__(self, hours: float, clock: Clock) -> None:
        self.seconds = hours * _HOUR
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def open(self, operator: str) -> str:
        """A new session's id."""
        now, identifier = self._clock.now(), secrets.token_urlsafe(32)
        with self._lock:
            self._sessions = {key: session for key, session in self._sessions.items() if session.expires > now}
            self._sessions[identifier] = _Session(operator, now + self.seconds)
        return identifier

    def operator(self, identifier: str) -> str | None:
        """The name of the operator whose session it is, unless it is over."""
        session = self._sessions.get(identifier)
        return session.operator if session is not None and session.expires > self._clock.now() else None

    def close(self, identifier: str) -> None:
        with self._lock:
            self._sessions.pop(identifier, None)
