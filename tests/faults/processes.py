"""Processes of a test: agents and a coordinator on one port, killed and started again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import tiny_federation as tiny
from tiny_federation import Hospital, Server, wait_until

from coordinator.app import open_services
from coordinator.services import Services
from coordinator.settings import load
from coordinator.store import operators

HERE = Path(__file__).parent


class Processes:
    """What a test started, each with its output in a file; killed at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        log = (self._folder / f"process-{len(self._running)}.log").open("wb")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._running.append(
            subprocess.Popen([sys.executable, *map(str, command)], stdout=log, stderr=log, env=environment)
        )
        log.close()
        return self._running[-1]

    def agent(self, hospital: Hospital, *stop: str | Path) -> subprocess.Popen[bytes]:
        return self.start(HERE / "run_agent.py", hospital.home.path, str(hospital.trainer.number), *stop)

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class Restartable:
    """A coordinator process on one port and one folder."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.folder, self._processes = folder, processes
        self.port = tiny.free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, *stop: str | Path) -> subprocess.Popen[bytes]:
        process = self._processes.start(HERE / "run_coordinator.py", self.folder, str(self.port), *stop)
        wait_until(self._answers, "the coordinator to answer")
        return process

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").is_success
        except httpx.TransportError:
            return False


@contextmanager
def operated(coordinator: Restartable) -> Iterator[Server]:
    """The operator's side of a coordinator process."""
    services: Services = open_services(load({"data_dir": coordinator.folder}))
    now = services.clock.now()
    token = services.store.run("operator", lambda s: operators.add(s, "test", "operator", "operator:test", now))
    transport = httpx.HTTPTransport(retries=3)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=coordinator.url, headers=headers, timeout=30, transport=transport) as http:
        yield Server(services, coordinator.url, http, lambda: None)
    services.store.close()
