"""The process that runs cases, where a crash, a hang or a huge allocation ends nobody else.

The case under way lies in a shared file, so that the parent still has it when this process is gone. What ends it: an
error that is not documented, a signal, SIGPROF after too much processor time on one case, or an allocation beyond the
limit, which fails and so is an error that is not documented.
"""

from __future__ import annotations

import argparse
import importlib
import json
import mmap
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from fuzz_format import Format  # noqa: E402
from fuzz_mutations import Tape  # noqa: E402

ROOM: Final = 192 << 20  # bytes that cases may allocate beyond what reading all seeds took
CASE_BYTES: Final = 8 << 20
_BATCH: Final = 5000  # hypothesis remembers what it has tried
_RAW: Final = st.binary(max_size=300)
_CASE: Final = st.tuples(st.integers(0, 255), st.binary(min_size=4, max_size=32))


class Case:
    """The bytes being read and the format they are read as, in a file that outlives this process."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), CASE_BYTES)

    def note(self, number: int, seconds: float, data: bytes) -> None:
        """The case that begins; it ends the process if it takes that much processor time."""
        signal.setitimer(signal.ITIMER_PROF, seconds)
        self._map[:8] = number.to_bytes(4, "little") + len(data).to_bytes(4, "little")
        self._map[8 : 8 + len(data)] = data

    @staticmethod
    def last(path: Path) -> tuple[int, bytes]:
        """The number of the format and the bytes of the case that was last begun."""
        content = path.read_bytes()
        return int.from_bytes(content[:4], "little"), content[8 : 8 + int.from_bytes(content[4:8], "little")]


def formats(group: str) -> list[Format]:
    return list(importlib.import_module(f"fuzz_{group}").formats())


def shares(chosen: list[Format], cases: int) -> list[int]:
    """How many cases each format gets by its weight, `cases` in all."""
    weights = sum(each.weight for each in chosen)
    bounds, passed = [0], 0
    for each in chosen:
        passed += each.weight
        bounds.append(cases * passed // weights)
    return [end - start for start, end in pairwise(bounds)]


def run(group: str, cases: int, number: int, seconds: float, case: Case) -> dict[str, Any]:
    """Cases of all formats of a group. What was done is returned; what went wrong ends the process.

    Args:
        number: the seed.
        seconds: of processor time that one case may take.
    """
    chosen = formats(group)
    for each in chosen:
        for data in each.seeds:
            each.read(data)  # a seed that is not valid would fuzz nothing
    _limit_memory()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    taken = {}
    for place, (each, size) in enumerate(zip(chosen, shares(chosen, cases), strict=True)):
        begin = partial(case.note, place, seconds)
        taken[each.name] = _fuzz(each, size, number, begin)
    return {"cases": cases, "taken": taken, "peak_mib": _peak_mib(), "cpu_seconds": time.process_time()}


def _peak_mib() -> int:
    """Of this program alone: getrusage's peak begins with that of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM:"))


def _fuzz(each: Format, cases: int, number: int, begin: Callable[[bytes], None]) -> int:
    """Run that many cases; how many of them were taken for valid."""
    done, taken = 0, 0

    def judge(data: bytes) -> None:
        nonlocal done, taken
        done += 1
        begin(data)
        try:
            taken += read(each, data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    while done < cases:
        options = settings(
            max_examples=min(cases - done, _BATCH),
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )

        @seed(f"{number} {each.name} {done}")
        @options
        @given(_CASE, _RAW)
        def attempt(spoilt: tuple[int, bytes], raw: bytes) -> None:
            pick, tape = spoilt
            judge(raw if pick > 247 else each.spoil(each.seeds[pick % len(each.seeds)], Tape(tape), each.seeds))

        attempt()
    return taken


def read(each: Format, data: bytes) -> bool:
    """Whether the reader took these bytes.

    Raises:
        Exception: anything but the documented errors.
    """
    try:
        each.read(data)
    except each.refusals:
        return False
    return True


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("group")
    parser.add_argument("case", type=Path)
    parser.add_argument("--cases", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    if asked.cases:
        print(json.dumps(run(asked.group, asked.cases, asked.seed, asked.seconds, Case(asked.case))))
        return
    number, data = Case.last(asked.case)
    chosen = formats(asked.group)[number]
    print(f"{chosen.name}: {'taken' if read(chosen, data) else 'refused as documented'}")


if __name__ == "__main__":
    main()
