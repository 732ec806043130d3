"""Sites spread over processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from simulation.engine.head import Head
from simulation.engine.serving import serving
from simulation.engine.sites import Moment, Sites, Turn
from simulation.engine.transport import client
from simulation.engine.values import Spec

_sites: Sites | None = None  # in a worker


@contextmanager
def worker_pool(spec: Spec, folder: Path, head: Head) -> Iterator[_Workers]:
    """`spec.workers` processes. A site stays with one, which keeps its cases and keys open."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        url = stack.enter_context(serving(head.app))
        workers = [
            stack.enter_context(ProcessPoolExecutor(1, context, initializer=_start, initargs=(spec, folder, url)))
            for _ in range(spec.workers)
        ]
        try:
            yield _Workers(spec, workers)
            _all(worker.submit(_stop) for worker in workers)
        except BaseException:
            for process in multiprocessing.active_children():  # they may train for long yet; their sites resume
                process.terminate()
            raise


class _Workers:
    def __init__(self, spec: Spec, workers: Sequence[ProcessPoolExecutor]) -> None:
        names = [hospital.name for hospital in spec.hospitals]
        self._worker = {name: workers[number % len(workers)] for number, name in enumerate(names)}

    def enrol(self, invitations: Mapping[str, str]) -> None:
        _all(self._worker[name].submit(_enrol, name, invitation) for name, invitation in invitations.items())

    def take(self, turn: Turn, names: Sequence[str], moment: Moment) -> None:
        _all(self._worker[name].submit(_take, turn, name, moment) for name in names)


def limit_threads(workers: int) -> None:
    """Leave the other workers their cores, where nobody said how many threads to train with."""
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


def _all(futures: Iterable[Future[Any]]) -> None:
    for future in list(futures):
        future.result()


# --- in a worker


def _start(spec: Spec, folder: Path, url: str) -> None:
    global _sites  # noqa: PLW0603
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if spec.threads is None:
        limit_threads(spec.workers)
    _sites = Sites(spec, folder, lambda: client(url))


def _here() -> Sites:
    if _sites is None:
        raise RuntimeError("this process was not started as a worker")
    return _sites


def _enrol(name: str, invitation: str) -> None:
    _here().enrol(name, invitation)


def _take(turn: Turn, name: str, moment: Moment) -> None:
    _here().take(turn, name, moment)


def _stop() -> None:
    _here().close()
