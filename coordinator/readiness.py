"""Whether the service can serve: what it stands on is tried, by whoever asks, and not more often for many who ask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

from anyio import CapacityLimiter, to_thread
from sqlalchemy import text

from coordinator.errors import CoordinatorError, NotReady
from coordinator.services import Services
from migrations import current, revisions

CHECK_SECONDS: Final = 2.0
KEPT_SECONDS: Final = 5.0
OK: Final = "ok"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Look:
    """One try of one check, under way or over."""

    began: float
    outcome: asyncio.Task[str]


class Readiness:
    """The checks of one process. Each is made once at a time, and what it found is shared for 5 s."""

    def __init__(self) -> None:
        # Threads of its own: requests may hold all those of the app.
        self._threads = CapacityLimiter(len(_CHECKS))
        self._looks: dict[str, _Look] = {}

    async def checks(self, services: Services) -> dict[str, str]:
        """By the name of each check: "ok", or in words that everybody may read what is wrong."""
        found = await asyncio.gather(*(self._outcome(name, services) for name in _CHECKS))
        return dict(zip(_CHECKS, found, strict=True))

    async def _outcome(self, name: str, services: Services) -> str:
        now, look = services.clock.now(), self._looks.get(name)
        if look is None or (look.outcome.done() and not 0 <= now - look.began < KEPT_SECONDS):
            look = self._looks[name] = _Look(now, asyncio.create_task(self._try(_CHECKS[name], services)))
        # Whoever asks waits no longer, and the check goes on: nobody can end a call to a database that hangs.
        await asyncio.wait({look.outcome}, timeout=min(CHECK_SECONDS, CHECK_SECONDS - (now - look.began)))
        return look.outcome.result() if look.outcome.done() else f"no answer within {CHECK_SECONDS:g} s"

    async def _try(self, check: Callable[[Services], None], services: Services) -> str:
        try:
            await to_thread.run_sync(check, services, abandon_on_cancel=True, limiter=self._threads)
        except CoordinatorError as error:
            return error.detail
        except Exception as error:
            log.warning("not ready: %r", error)
            return type(error).__name__  # its text may name addresses and paths, and everybody may ask
        return OK


def _database(services: Services) -> None:
    services.store.read("ready", lambda session: session.execute(text("SELECT 1")))


def _migrations(services: Services) -> None:
    found = current(services.store.engine)
    if found != _newest():
        raise NotReady(f"the database is at revision {found}, this program needs {_newest()}")


@cache
def _newest() -> str:
    """The revision of this program's own files, which are read once."""
    return revisions()[-1]


def _blobs(services: Services) -> None:
    services.blobs.put_bytes("probes/ready", b"ready")


_CHECKS: Final = {"database": _database, "migrations": _migrations, "blobs": _blobs}
