"""How a study stands, looked up once for all requests that ask it at about the same time.

Hundreds of agents wait for news of one study. Each would ask the database several times a second, only to hear that
there is none; together they ask as often as one.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import anyio
from fastapi.concurrency import run_in_threadpool

from coordinator.store.tasks import Survey

_KEPT: Final = 64  # studies


@dataclass(slots=True)
class _Study:
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    began: float = float("-inf")
    survey: Survey | None = None
    waiting: int = 0


class Surveys:
    """Of one process, used on its event loop.

    Args:
        look: surveys a study; called in a thread.
        spread: seconds between two of those that wait when they hear of news, on average.
    """

    def __init__(self, look: Callable[[UUID], Survey], spread: float) -> None:
        self._look, self._spread, self._studies = look, spread, OrderedDict[UUID, _Study]()

    async def since(self, study: UUID, moment: float) -> Survey:
        """One that was begun at `moment` (the event loop's time) or later, so that it knows what was done before."""
        kept = self._kept(study)
        async with kept.lock:  # whoever comes while somebody looks shares the next look with all that came
            if kept.survey is None or kept.began < moment:
                began = anyio.current_time()
                kept.survey = await run_in_threadpool(self._look, study)
                kept.began = began  # not before: a look that failed makes the survey before it no newer
            return kept.survey

    @contextmanager
    def waiting(self, study: UUID) -> Iterator[Callable[[], float]]:
        """Counts a request as one that waits for news, and yields how long it should wait on when there are some.

        All would come back at once otherwise, and keep each other waiting.
        """
        kept = self._kept(study)
        kept.waiting += 1
        try:
            yield lambda: random.uniform(0, self._spread * (kept.waiting - 1))
        finally:
            kept.waiting -= 1

    def _kept(self, study: UUID) -> _Study:
        found = self._studies.setdefault(study, _Study())
        self._studies.move_to_end(study)
        while len(self._studies) > _KEPT:
            self._studies.popitem(last=False)
        return found
