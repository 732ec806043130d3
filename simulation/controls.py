"""The other trainings that a federation is compared with: each hospital alone, and all data in one place.

Same first model, same number of rounds of the same local epochs, same settings; only the averaging is left out, and the
optimiser goes on from round to round, which it cannot where others' updates come between.
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
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

POLL_SECONDS = 0.3

J = TypeVar("J")
R = TypeVar("R")

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
    """The outcome of each job, by name; otherwise as `run_all`."""
    return run_all(_train, {job.name: job for job in jobs}, logs / "controls.log", shown)


def run_all(
    work: Callable[[J, Callable[[], None]], R],
    jobs: Mapping[str, J],
    log: Path,
    shown: Callable[[Mapping[str, int]], None],
    workers: int | None = None,
) -> dict[str, R]:
    """What `work(job, advance)` gives for each job, in processes of this machine.

    Give the longest job first: jobs start in order, as many at a time as there are cores.

    Args:
        work: a function of a module, which calls `advance()` after each step.
        log: where the workers write.
        shown: gets the steps that each has made, a few times a second.
        workers: how many at a time, in place of the cores.

    Raises:
        BrokenProcessPool: a worker was ended from outside.
        Exception: whatever a job raised.
    """
    context = multiprocessing.get_context("spawn")
    counters = context.Array("i", len(jobs))
    log.parent.mkdir(parents=True, exist_ok=True)
    limit = min(len(jobs), workers or os.cpu_count() or 1)
    with ProcessPoolExecutor(limit, context, initializer=_start_worker, initargs=(counters, log)) as pool:
        futures = {name: pool.submit(_run, work, number, job) for number, (name, job) in enumerate(jobs.items())}
        try:
            for _ in _until_done(futures.values()):
                shown({name: counters[number] for number, name in enumerate(jobs)})
            return {name: future.result() for name, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _until_done(futures: Iterable[Future[Any]]) -> Iterator[None]:
    """A few times a second until all are done, or one has failed."""
    pending = list(futures)
    while pending:
        done, rest = wait(pending, timeout=POLL_SECONDS)
        for future in done:
            future.result()
        pending = list(rest)
        yield


def _start_worker(counters: Any, log: Path) -> None:
    """One core for each worker; Ctrl-C is the parent's to handle."""
    global _done  # noqa: PLW0603
    _done = counters
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(filename=log, level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each of an agent's requests


def _run(work: Callable[[J, Callable[[], None]], R], number: int, job: J) -> R:
    def advance() -> None:
        _done[number] += 1

    return work(job, advance)


def _train(job: Job, advance: Callable[[], None]) -> Outcome:
    # In the worker only: torch takes seconds to import, and this process has no use for it.
    from simulation.control_worker import work

    return work(job, advance)
