"""Several coordinators on one PostgreSQL and one folder of blobs, and a client that asks them in turn."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import httpx
from tiny_federation import free_port

RUN = Path(__file__).with_name("run_coordinator.py")


class Replicas:
    """Coordinator processes; one that is killed is started again at once, on its port."""

    def __init__(self, number: int, database: str, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "PLEURA_DATABASE_URL": database, "OMP_NUM_THREADS": "1"}
        self.ports = [free_port() for _ in range(number)]
        self._processes = {port: self._start(port) for port in self.ports}
        self.kills = 0

    def kill(self, port: int) -> None:
        """SIGKILL, and a new process."""
        self._end(port)
        self._processes[port] = self._start(port)
        self.kills += 1

    def end(self) -> None:
        for port in self.ports:
            self._end(port)

    def ready(self) -> bool:
        """Whether all of them serve."""
        try:
            return all(httpx.get(f"http://127.0.0.1:{port}/readyz").is_success for port in self.ports)
        except httpx.TransportError:
            return False

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, RUN, self._folder / "coordinator", str(port)]
        with (self._folder / f"replica-{port}.log").open("ab") as log:
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def _end(self, port: int) -> None:
        self._processes[port].kill()
        self._processes[port].wait()


class RoundRobin(httpx.BaseTransport):
    """Sends each request to the next coordinator; one that does not listen is passed over."""

    def __init__(self, ports: list[int], before: Callable[[], None] = lambda: None) -> None:
        self._turns, self._number, self._before = cycle(ports), len(ports), before
        self._transport = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._before()
        for _ in range(self._number - 1):
            try:
                return self._send(request)
            except httpx.ConnectError:
                continue
        return self._send(request)

    def close(self) -> None:
        self._transport.close()

    def _send(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(port=next(self._turns))
        return self._transport.handle_request(request)


class Killer:
    """Kills one coordinator or another, each time after so many more requests as chance has it."""

    def __init__(self, replicas: Replicas, seed: int, least: int, most: int) -> None:
        self._replicas, self._chance, self._span = replicas, random.Random(seed), (least, most)
        self._left, self._lock, self.stopped = self._chance.randint(least, most), threading.Lock(), False

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left > 0 or self.stopped:
                return
            self._left = self._chance.randint(*self._span)
            self._replicas.kill(self._chance.choice(self._replicas.ports))
