"""Progress of long steps: a bar with the time left on a terminal, a line now and then in a log file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

_LINE_EVERY: Final = 10.0  # seconds between lines in a log file

Advance = Callable[[int, int], None]
"""Tells (steps done, steps in all). Raises to end the work early: a stopping agent, a round that closed."""
Check = Callable[[], None]


class Reporter(Protocol):
    """Shows one piece of work at a time: `with reporter.work("training") as advance: ... advance(3, 40)`.

    `check` is called at every step and may raise.
    """

    def work(self, what: str, check: Check) -> AbstractContextManager[Advance]: ...


class Bars:
    """A bar with the time left, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def work(self, what: str, check: Check) -> Iterator[Advance]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True) as bars:
            task = bars.add_task(what, total=None)

            def advance(done: int, total: int) -> None:
                check()
                bars.update(task, completed=done, total=total)

            yield advance


class Lines:
    """A line every ten seconds and one at the end, for log files."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    @contextmanager
    def work(self, what: str, check: Check) -> Iterator[Advance]:
        start = said = self._clock()
        before: int | None = None  # steps that were done already, by an agent that was killed

        def advance(done: int, total: int) -> None:
            nonlocal said, before
            check()
            now = self._clock()
            before = done - 1 if before is None else before
            if now - said >= _LINE_EVERY and before < done < total:
                left = (now - start) / (done - before) * (total - done)
                log.info("%s: %d of %d, about %.0f s left", what, done, total, left)
                said = now

        yield advance
        log.info("%s: done in %.1f s", what, self._clock() - start)


def reporter(console: Console) -> Reporter:
    """What suits the console."""
    return Bars(console) if console.is_terminal else Lines()
