"""What a person sees while an experiment runs: a bar for all of it, with the time left, and one for each unit."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: Units differ in their pace, so the time left is estimated from many minutes.
SPEED_SECONDS = 1800.0


class Bars:
    """Bars on a terminal; a line for each finished unit everywhere. `total`: steps of all units that are not done."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
        )
        self._bars = Progress(
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=SPEED_SECONDS,
        )
        self._all = self._bars.add_task("all rounds", total=total)
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._started: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @property
    def done(self) -> int:
        """Steps of all units."""
        return sum(self._done.values())

    @property
    def shown(self) -> list[str]:
        """What has a bar of its own now."""
        return list(self._tasks)

    def unit(self, name: str, done: int, total: int) -> None:
        """How many steps a unit has made; its bar shows while it is at work."""
        new = done - self._done.get(name, 0)
        self._done[name] = done
        if new:
            self._bars.advance(self._all, new)
            self._started.setdefault(name, time.monotonic())
        self._show(name, done, total)
        if new and done >= total:
            seconds = time.monotonic() - self._started[name]
            self._bars.console.print(f"{name}: done, {seconds:.0f} s after its first round", highlight=False)

    def beside(self, what: str, done: int, total: int) -> None:
        """Work that is no training, such as drawing phantoms."""
        self._show(what, done, total)

    def _show(self, name: str, done: int, total: int) -> None:
        if done >= total:
            if name in self._tasks:
                self._bars.remove_task(self._tasks.pop(name))
        elif done:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total)
            self._bars.update(self._tasks[name], completed=done)
