"""Moments at which an agent dies: so many calls of functions after it began one phase of one round.

The calls are those of the thread that is in the phase, of C functions too, so that a moment may lie between the write
of a file and its fsync, or between two pieces of a part on their way into the socket.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from participant.files import write_whole

FIRST = 2  # in the first round nobody dies: it tells how many calls each phase has


@dataclass(frozen=True, slots=True)
class Moment:
    """`share` of a phase's calls, at the site of that number, or, for 0, at whichever gets there first: not every site
    is asked to open a sum."""

    round: int
    phase: str
    share: float
    site: int


def draw(seed: int, phases: Sequence[str], each: int) -> list[Moment]:
    """`each` moments of every phase, a round for each of them, in no order."""
    chance = random.Random(seed)
    chosen = [phase for phase in phases for _ in range(each)]
    chance.shuffle(chosen)
    sites = [0 if phase == "opening" else chance.randint(1, 3) for phase in chosen]
    return [
        Moment(number, phase, chance.random(), site)
        for number, (phase, site) in enumerate(zip(chosen, sites, strict=True), FIRST)
    ]


class Mortal:
    """Has this process killed at its moments.

    Args:
        folder: shared by all agents: a file for each phase with its number of calls, and one for each moment that came.
    """

    PHASES: ClassVar = ("training", "sealing", "uploading", "ballot", "voting", "opening")

    def __init__(self, moments: Sequence[Moment], folder: Path) -> None:
        self._moments = {(moment.round, moment.phase): moment for moment in moments}
        self._folder = folder

    def phase(self, name: str, work: Callable[..., Any], round_of: Callable[..., int]) -> Callable[..., Any]:
        """`work` as a phase: `round_of` tells the round from its arguments."""

        def watched(*arguments: Any, **named: Any) -> Any:
            number = round_of(*arguments)
            with self._counted(number, name) if number < FIRST else self._endangered(number, name):
                return work(*arguments, **named)

        return watched

    @contextmanager
    def _counted(self, number: int, name: str) -> Iterator[None]:
        calls = 0

        def count(*_: Any) -> None:
            nonlocal calls
            calls += 1

        with profiled(count):
            yield
        write_whole(self._folder / f"{name}.calls", str(calls).encode())  # another agent may read it meanwhile

    @contextmanager
    def _endangered(self, number: int, name: str) -> Iterator[None]:
        moment = self._moments.get((number, name))
        if moment is None or self._came(number).exists():
            yield
            return
        left = int(moment.share * int((self._folder / f"{name}.calls").read_text()))

        def count(*_: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                self._die(number)

        with profiled(count):
            yield
        self._die(number)  # the phase was shorter this time

    def _die(self, number: int) -> None:
        with suppress(FileExistsError):  # another site had the moment
            self._came(number).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)

    def _came(self, number: int) -> Path:
        return self._folder / f"round-{number}.came"


@contextmanager
def profiled(count: Callable[..., None]) -> Iterator[None]:
    """Every call and return of this thread is told to `count`."""
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)
