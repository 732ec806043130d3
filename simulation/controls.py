"""The other trainings that a federation is compared with: each hospital alone, and all data in one place.

Same first model, same number of rounds of the same local epochs, same settings; only the averaging is left out.
They run in processes of this machine, one core each.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

POLL_SECONDS = 0.3

_done: Any = None  # in a worker: one shared counter a job, of the steps it has made


@dataclass(frozen=True)
class Place:
    """A hospital's cases: their folder, where they lie preprocessed, and the seed of their split."""

    data: Path
    cache: Path
    seed: int


@dataclass(frozen=True)
class Job:
    """One training and its evaluation. `rounds` 0 only evaluates `model`, a file. `places`: all hospitals, by name."""

    name: str
    model: Path
    trained_on: Sequence[str]
    rounds: int
    places: Mapping[str, Place]
    state_dir: Path
    seed: int
    curve_points: int = 4

    def is_point(self, number: int) -> bool:
        """Whether the learning curve has a point after this round: evenly spaced ones, and always the last."""
        return number * self.curve_points // self.rounds > (number - 1) * self.curve_points // self.rounds


@dataclass(frozen=True)
class Outcome:
    """Of each hospital's held-out cases the probabilities [n, C] and labels [n], by the last round's model.

    curve: (round, macro AUC on all hospitals' validation cases). cases: {hospital: {split: {class: number}}}.
    """

    name: str
    probabilities: Mapping[str, NDArray[np.float32]]
    labels: Mapping[str, NDArray[np.int64]]
    curve: Sequence[tuple[int, float]]
    cases: Mapping[str, Mapping[str, Mapping[str, int]]]


def run_jobs(jobs: Sequence[Job], logs: Path, shown: Callable[[Mapping[str, int]], None]) -> dict[str, Outcome]:
    """The outcome of each job, by name. `shown` gets the rounds that each has made, a few times a second.

    Give the longest job first: jobs start in order, as many at a time as there are cores.

    Raises:
        BrokenProcessPool: a worker was ended from outside.
        Exception: whatever a job raised.
    """
    context = multiprocessing.get_context("spawn")
    counters = context.Array("i", len(jobs))
    workers = min(len(jobs), os.cpu_count() or 1)
    logs.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(counters, logs)) as pool:
        futures = {job.name: pool.submit(_run, number, job) for number, job in enumerate(jobs)}
        try:
            for _ in _until_done(futures.values()):
                shown({job.name: counters[number] for number, job in enumerate(jobs)})
            return {name: future.result() for name, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _until_done(futures: Iterable[Future[Outcome]]) -> Iterator[None]:
    """A few times a second until all are done, or one has failed."""
    pending = list(futures)
    while pending:
        done, rest = wait(pending, timeout=POLL_SECONDS)
        for future in done:
            future.result()
        pending = list(rest)
        yield


def _start_worker(counters: Any, logs: Path) -> None:
    """One core for each worker; Ctrl-C is the parent's to handle."""
    global _done  # noqa: PLW0603
    _done = counters
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(filename=logs / "controls.log", level=logging.INFO, format="%(asctime)s %(message)s")


def _run(number: int, job: Job) -> Outcome:
    # In the worker only: torch takes seconds to import, and this process has no use for it.
    from simulation.control_worker import work

    def advance() -> None:
        _done[number] += 1

    return work(job, advance)
