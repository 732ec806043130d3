"""Numbers for Prometheus: what this process did, as it happens, and what the database holds, when somebody asks.

docs/monitoring.md explains each. They are about traffic and time, and tell nothing of what sites computed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.clock import Clock
from coordinator.housekeeping import Housekeeper
from coordinator.rounds.phases import Phase
from coordinator.store import numbers
from coordinator.store.blobs import Blobs
from coordinator.store.database import Store
from coordinator.store.numbers import Numbers

LeaseOutcome = Literal["taken", "held", "lost"]
RoundOutcome = Literal["complete", "failed"]

_KINDS: Final = (("/key-parts", "key-parts"), ("/parts", "parts"), ("/models", "models"))  # first match in a route
_OTHER: Final = "other"
_ANSWER_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# From a round of a test to one that waits a day for a hospital's night.
_PHASE_SECONDS: Final = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 57600, 86400)

log = logging.getLogger(__name__)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a third series for each counter, which nobody asks for


class Monitor:
    """One process's numbers. A conductor says with `alive` that it is at work; without one there is nothing to hang."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._alive: float | None = None
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = self._counter("requests", "Requests answered", "method", "route", "status")
        self._seconds = self._histogram(
            "request_seconds", "From a request to the beginning of its answer", _ANSWER_SECONDS, "method", "route"
        )
        self._problems = self._counter("problems", "Problem documents sent, by code", "code")
        self._received = self._counter("received_bytes", "Bytes of bodies received", "kind")
        self._sent = self._counter("sent_bytes", "Bytes of bodies sent", "kind")
        self._phases = self._histogram(
            "round_phase_seconds", "Phases of rounds that this process ended", _PHASE_SECONDS, "phase"
        )
        self._ended = self._counter("rounds_ended", "Attempts that this process ended", "outcome")
        self._leases = self._counter("leases", "Leases on rounds that this process asked for", "outcome")
        self._repeats = self._counter("transaction_repeats", "Transactions that were run again", "transaction")
        self._begin_at_zero()

    def watch(self, store: Store, blobs: Blobs, housekeeper: Housekeeper) -> None:
        """Tell of this database and this blob store as well."""
        store.on_repeat = self.repeated
        self.registry.register(_Held(store, self.conductor_age))
        self.registry.register(_Room(blobs, housekeeper))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

    # --- requests

    def answered(self, method: str, route: str, status: int, seconds: float, problem: str | None) -> None:
        """`problem`: the code of the document that was sent, if one was."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)
        if problem is not None:
            self._problems.labels(problem).inc()

    def exchanged(self, route: str, received: int, sent: int) -> None:
        """Bytes of a request's body and its answer's, told also where it was broken off."""
        kind = next((kind for part, kind in _KINDS if part in route), _OTHER)
        self._received.labels(kind).inc(received)
        self._sent.labels(kind).inc(sent)

    # --- rounds

    def alive(self) -> None:
        """The conductor looked for work, or long work went on."""
        self._alive = self._clock.now()

    def conductor_age(self) -> float | None:
        """Seconds since the conductor gave a sign of life; None where this process has none."""
        return None if self._alive is None else self._clock.now() - self._alive

    def leased(self, outcome: LeaseOutcome) -> None:
        self._leases.labels(outcome).inc()

    def repeated(self, transaction: str) -> None:
        self._repeats.labels(transaction).inc()

    def phase(self, phase: Phase, seconds: float) -> None:
        self._phases.labels(phase).observe(seconds)

    def ended(self, outcome: RoundOutcome) -> None:
        self._ended.labels(outcome).inc()

    # ---

    def _begin_at_zero(self) -> None:
        """A series that begins at one has no increase that Prometheus could see."""
        for ended in get_args(RoundOutcome):
            self._ended.labels(ended)
        for leased in get_args(LeaseOutcome):
            self._leases.labels(leased)
        for phase in get_args(Phase):
            self._phases.labels(phase)
        for kind in ("parts", "key-parts", "models", _OTHER):
            self._received.labels(kind)
            self._sent.labels(kind)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"pleura_{name}", words, labels, registry=self.registry)

    def _histogram(self, name: str, words: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(f"pleura_{name}", words, labels, registry=self.registry, buckets=tuple(buckets))


class _Held(Collector):
    """What is looked up anew each time, in the database and about the conductor."""

    def __init__(self, store: Store, conductor_age: Callable[[], float | None]) -> None:
        self._store, self._conductor_age = store, conductor_age

    def describe(self) -> Iterable[Metric]:
        return []  # so that registering does not read the database

    def collect(self) -> Iterable[Metric]:
        age = self._conductor_age()
        if age is not None:
            yield GaugeMetricFamily("pleura_conductor_age_seconds", "Since the conductor's last sign of life", age)
        try:
            found = self._store.read("numbers", numbers.read)
        except Exception as error:
            log.warning("the database cannot be read for /metrics: %r", error)
            found = None
        yield GaugeMetricFamily("pleura_database_up", "Whether the database could be read just now", found is not None)
        if found is not None:
            yield from self._families(found)

    def _families(self, found: Numbers) -> Iterable[Metric]:
        yield _family("rounds", "Attempts at rounds, by state", "state", found.rounds)
        yield _family("studies", "Studies, by state", "state", found.studies)
        yield _family("sites", "Sites, by state", "state", found.sites)
        # A series each: sites are hundreds at most, are never deleted, and which one is away is what an operator asks.
        yield _family("site_last_seen_seconds", "When an active site last called, Unix seconds", "site", found.seen)
        yield _family(
            "study_completed_seconds",
            "When a running study completed its last round, or was created, Unix seconds",
            "study",
            {study.name: study.completed for study in found.running},
        )
        yield _family(
            "study_failures",
            "Attempts of a running study that failed since its last completed round",
            "study",
            {study.name: study.failures for study in found.running},
        )


class _Room(Collector):
    """What the blobs take, as it was counted in the last hour, and what is free now. An object store does not tell."""

    def __init__(self, blobs: Blobs, housekeeper: Housekeeper) -> None:
        self._blobs, self._housekeeper = blobs, housekeeper

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        try:
            free = self._blobs.free_bytes()
        except OSError as error:
            log.warning("the disk of the blobs cannot be asked for /metrics: %r", error)
            free = None
        if free is not None:
            yield GaugeMetricFamily("pleura_blob_free_bytes", "Free on the disk of the blobs", free)
        usage = self._housekeeper.usage
        if usage is not None:
            sizes = {kind: room.size for kind, room in usage.kinds.items()}
            files = {kind: room.files for kind, room in usage.kinds.items()}
            yield _family("blob_bytes", "Bytes of the blobs, counted once an hour", "kind", sizes)
            yield _family("blob_files", "Number of the blobs, counted once an hour", "kind", files)


def _family(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"pleura_{name}", words, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
