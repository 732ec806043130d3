"""What every system under measurement shares: the updates, the clock, the memory gauge and the steps of a cell.

A cell is one system at one size with one number of sites. Each of its steps is a process of its own, under the
system's own interpreter, so that this module needs NumPy and the standard library only. Linux alone: memory is read
from /proc.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Buffer: TypeAlias = bytes | bytearray | memoryview
Update: TypeAlias = NDArray[np.float32]
Run: TypeAlias = dict[str, float]  # wall clock and processor seconds of one run

N_MAX = 1000  # samples that weigh 1
SAMPLES = (100, 200, 300, 400)  # of the sites in turn: the mean weight is 0.25
SPREAD = np.float32(0.01)  # standard deviation of an update's values; tensor bounds are 1


@dataclass(frozen=True)
class Job:
    """One step of a cell.

    Attributes:
        system: as the table names it.
        step: a key of `STEPS`.
        shapes: name and shape of every tensor, in order.
        folder: of the cell; its steps hand files to each other here.
        repeats: timed runs wanted.
        budget: seconds after which no further run is started.
    """

    system: str
    step: str
    shapes: list[tuple[str, tuple[int, ...]]]
    sites: int
    folder: Path
    repeats: int
    budget: float

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"folder": str(self.folder)})

    @classmethod
    def from_json(cls, text: str) -> Job:
        fields = json.loads(text)
        shapes = [(name, tuple(shape)) for name, shape in fields["shapes"]]
        return cls(**(fields | {"shapes": shapes, "folder": Path(fields["folder"])}))

    @property
    def values(self) -> int:
        return sum(math.prod(shape) for _, shape in self.shapes)

    def update(self, site: int) -> Update:
        """The update of a site, float32 [values]: the same for every system."""
        return np.random.default_rng(site).standard_normal(self.values, np.float32) * SPREAD

    def tensors(self, update: Update) -> Iterator[tuple[str, Update]]:
        """The update as named tensors, without a copy."""
        start = 0
        for name, shape in self.shapes:
            size = math.prod(shape)
            yield name, update[start : start + size].reshape(shape)
            start += size

    def samples(self, site: int) -> int:
        return SAMPLES[site % len(SAMPLES)]

    def weight(self, site: int) -> float:
        return self.samples(site) / N_MAX


class System(ABC):
    """One way of aggregating. A process makes one of it and takes either the sites' side or the server's."""

    def __init__(self, job: Job) -> None:
        self.job = job

    # --- the sites' side

    @abstractmethod
    def provision(self) -> None:
        """What is agreed before anyone seals: keys, contexts, plan. Not timed."""

    @abstractmethod
    def sealing(self, site: int, update: Update) -> Callable[[], Iterable[Buffer]]:
        """What seals and serialises an update, once: its result is what goes up, in pieces. The call is timed."""

    def further_bytes(self, site: int) -> int:
        """What a site sends up in a round besides."""
        return 0

    def store(self, site: int, pieces: Iterable[Buffer]) -> None:
        """A contribution into the files that the server reads."""
        with self.body(site).open("wb") as file:
            file.writelines(pieces)

    def answer(self) -> None:  # noqa: B027  # most have nothing to do
        """What else the sites do for the sum to be opened, once all contributions are stored. Not timed."""

    # --- the server's side

    @abstractmethod
    def add(self) -> Any:
        """Read the contributions of all sites from their files and add them up. Timed."""

    @abstractmethod
    def open(self, total: Any) -> Any:
        """The server's part in turning the sum into the mean, once a round. Timed; its result is for `save`."""

    def save(self, opened: Any) -> None:
        """Keep what was opened for `mean`."""
        np.save(self.job.folder / "mean.npy", opened)

    def whole(self) -> Any:
        """A server's whole round, for the memory that it takes; its result is for `save`."""
        return self.open(self.add())

    def mean(self) -> NDArray[Any]:
        """The mean, flat, from what was saved."""
        opened: NDArray[Any] = np.load(self.job.folder / "mean.npy")
        return opened

    # --- both

    def body(self, site: int) -> Path:
        return self.job.folder / f"site-{site:04}"

    def bodies(self, site: int) -> Iterable[Path]:
        """The files of a contribution, for the time that hashing them takes."""
        return [self.body(site)]

    def further_times(self) -> dict[str, float]:
        """Seconds of what is worth knowing besides, after the step's own runs."""
        return {}


def timed(work: Callable[[], Any]) -> tuple[Run, Any]:
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}, result


def repeated(run: Callable[[], list[Run]], job: Job) -> list[list[Run]]:
    """The runs' figures. A first run that warms caches up is left out where there was time for another."""
    started, runs = time.perf_counter(), [run()]
    while len(runs) <= job.repeats and time.perf_counter() - started < job.budget:
        runs.append(run())
    return runs[1:] or runs


def client(system: System) -> dict[str, Any]:
    system.provision()
    update, sizes = system.job.update(0), []

    def run() -> list[Run]:
        seal = system.sealing(0, update)
        figures, size = timed(lambda: sum(memoryview(piece).nbytes for piece in seal()))
        sizes.append(size)
        return [figures]

    runs = repeated(run, system.job)
    upload = int(np.median(sizes)) + system.further_bytes(0)
    return {"upload": upload, "client": [seal for (seal,) in runs], "further": system.further_times()}


def contribute(system: System) -> dict[str, Any]:
    system.provision()
    for site in range(system.job.sites):
        system.store(site, system.sealing(site, system.job.update(site))())
    system.answer()
    return {}


def server(system: System) -> dict[str, Any]:
    def run() -> list[Run]:
        added, total = timed(system.add)
        opened, _ = timed(lambda: system.open(total))
        return [added, opened]

    runs = repeated(run, system.job)
    hashed = [_hash_seconds(system.bodies(0)) for _ in range(system.job.repeats)]
    further = {"sha256": float(np.median(hashed)), **system.further_times()}
    return {"add": [add for add, _ in runs], "open": [opened for _, opened in runs], "further": further}


def memory(system: System) -> dict[str, Any]:
    reset_peak()
    before = _status("VmRSS")
    opened = system.whole()
    peak = _status("VmHWM") - before
    system.save(opened)
    return {"memory": peak}


def check(system: System) -> dict[str, Any]:
    """Largest distance from the mean in float64; the tensors' bounds are 1."""
    job = system.job
    exact = np.zeros(job.values)
    for site in range(job.sites):
        exact += job.weight(site) * job.update(site).astype(np.float64)
    exact /= sum(job.weight(site) for site in range(job.sites))
    return {"error": float(np.abs(system.mean() - exact).max())}


STEPS = {"client": client, "contribute": contribute, "server": server, "memory": memory, "check": check}


def main(system: Callable[[Job], System]) -> None:
    """The step that standard input describes; its figures go to a file, as libraries write to standard output."""
    job = Job.from_json(sys.stdin.read())
    figures = STEPS[job.step](system(job))
    figures["peak"] = _status("VmHWM")
    (job.folder / "figures.json").write_text(json.dumps(figures))


def reset_peak() -> None:
    """From here on VmHWM counts; what imports took for a moment is forgotten."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    """Bytes, of a line such as "VmRSS:   1234 kB"."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _hash_seconds(paths: Iterable[Path]) -> float:
    """SHA-256 alone: reading is not timed."""
    bodies = (path.read_bytes() for path in paths)
    return sum(timed(partial(hashlib.sha256, body))[0]["seconds"] for body in bodies)
