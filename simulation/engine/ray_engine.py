"""Sites placed on a Ray cluster, or on one that is started on this machine for the run.

The coordinator serves HTTP from this process; each worker is an actor that works for its share of the sites. A worker
that dies is started again somewhere, and its sites go on from their homes, as agents do after a crash: the run's folder
has to be one that every node sees. Base models reach the workers through the object store, once a node.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import ray
from numpy.typing import NDArray

from coordinator.store.blobs import model_key
from simulation.engine.head import Head
from simulation.engine.serving import serving
from simulation.engine.sites import Moment, Sites, Turn
from simulation.engine.transport import client
from simulation.engine.values import Spec
from simulation.engine.workers import limit_threads

_LOOPBACK: Final = "127.0.0.1"
_ADDRESS: Final = "RAY_ADDRESS"  # Ray's own variable: the cluster to join
_FOR_EVER: Final = -1
_QUIET: Final[dict[str, Any]] = {"log_to_driver": False, "logging_level": logging.WARNING}


@contextmanager
def ray_pool(spec: Spec, folder: Path, head: Head) -> Iterator[_RayWorkers]:
    """`spec.workers` actors. A site stays with one, which keeps its cases and keys open."""
    with ExitStack() as stack:
        host = stack.enter_context(_cluster(spec))
        url = stack.enter_context(serving(head.app, host))
        made: Any = ray.remote(Worker)
        actor = made.options(
            num_cpus=spec.worker_cpus,
            num_gpus=spec.worker_gpus,
            max_restarts=_FOR_EVER,
            max_task_retries=_FOR_EVER,
        )
        workers = [actor.remote(spec, folder.absolute(), url) for _ in range(spec.workers)]
        try:
            yield _RayWorkers(spec, head, workers)
            ray.get([worker.close.remote() for worker in workers])
        finally:
            for worker in workers:
                ray.kill(worker)


@contextmanager
def _cluster(spec: Spec) -> Iterator[str]:
    """The cluster that RAY_ADDRESS names, or one of this machine's cores; gives the address that nodes reach us at."""
    if ray.is_initialized():  # by whoever called, who ends it too
        yield _own_address()
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if _ADDRESS in os.environ:
        ray.init(**_QUIET)
        host = _own_address()
    else:
        cores = max(os.cpu_count() or 1, math.ceil(spec.workers * spec.worker_cpus))
        ray.init(address="local", num_cpus=cores, include_dashboard=False, **_QUIET)
        host = _LOOPBACK
    try:
        yield host
    finally:
        ray.shutdown()


def _own_address() -> str:
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


class Worker:
    """An actor: some of the sites."""

    def __init__(self, spec: Spec, folder: Path, url: str) -> None:
        if spec.threads is None:
            limit_threads(spec.workers)
        self._sites = Sites(spec, folder, lambda: client(url))

    def enrol(self, name: str, invitation: str) -> None:
        self._sites.enrol(name, invitation)

    def take(self, turn: Turn, name: str, moment: Moment, digest: str, model: NDArray[np.uint8] | None) -> None:
        """A site's turn.

        Args:
            digest: of the current model.
            model: its file, as the object store has it; None where only members hold it.
        """
        if model is not None:
            self._sites.supply(name, digest, model.data)
        self._sites.take(turn, name, moment)

    def close(self) -> None:
        self._sites.close()


class _RayWorkers:
    def __init__(self, spec: Spec, head: Head, workers: Sequence[Any]) -> None:
        names = [hospital.name for hospital in spec.hospitals]
        self._worker = {name: workers[number % len(workers)] for number, name in enumerate(names)}
        self._head = head
        self._digest = ""
        self._model: Any = None  # its place in the object store

    def enrol(self, invitations: Mapping[str, str]) -> None:
        ray.get([self._worker[name].enrol.remote(name, invitation) for name, invitation in invitations.items()])

    def take(self, turn: Turn, names: Sequence[str], moment: Moment) -> None:
        self._put_model()
        ray.get([self._worker[name].take.remote(turn, name, moment, self._digest, self._model) for name in names])

    def _put_model(self) -> None:
        """The study's current model into the object store, whenever it is a new one that the coordinator holds."""
        study = self._head.study
        held = study.release == "open" or study.current_model == study.first_model
        if study.current_model == self._digest:
            return
        self._digest, self._model = study.current_model, None
        if held:
            data = self._head.services.blobs.read(model_key(self._digest))
            self._model = ray.put(np.frombuffer(data, np.uint8))
