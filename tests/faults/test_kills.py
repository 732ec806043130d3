"""SIGKILL at the worst moments: each process resumes, the round completes, and the model is the right one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import tiny_federation as tiny
from tiny_federation import Hospital, Server, wait_until

from coordinator.app import open_services
from coordinator.services import Services
from coordinator.settings import load
from coordinator.store import operators
from crypto.layout import Layout, Tensor
from participant.ledger import Ledger

HERE = Path(__file__).parent
# Above one part of 4 MiB, so that an upload has a middle.
LAYOUT = Layout((Tensor("weight", (1100, 1000), "parameter"), Tensor("bias", (7,), "parameter")), tiny.LAYOUT.counts)
WISHES = {"expected_sites": 3, "rounds": 1, "collect_seconds": 90, "vote_seconds": 60, "open_seconds": 90}


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


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.end()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class Study:
    """A study over three hospitals, and what has to hold once it ended."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.base = tiny.save_first_model(folder / "first.safetensors", LAYOUT)
        self.id = server.create_study(folder / "first.safetensors", **WISHES)["id"]
        self.hospitals = [tiny.make_hospital(folder, server.url, server.invite(), number) for number in (1, 2, 3)]

    def state(self) -> str:
        """Of the running attempt."""
        rows = self.server.rounds(self.id)
        return rows[-1]["state"] if rows else "none"

    def finished(self) -> bool:
        return bool(self.server.study(self.id)["state"] == "finished")

    def check(self) -> None:
        """Every round completed at its first attempt, with all sites in it, and the model is the float64 mean's."""
        wait_until(self.finished, "the study to finish", 120)
        rows = self.server.rounds(self.id)
        assert [(row["round"], row["attempt"], row["state"]) for row in rows] == [
            (1, 1, "complete"),
            (2, 1, "complete"),
        ]
        assert all(len(row["contributors"]) == 3 for row in rows)
        found = self.server.vector(self.server.study(self.id)["model"], self.folder, LAYOUT)
        tiny.check_model(found, self.base, rows, [hospital.trainer for hospital in self.hospitals], LAYOUT)
        for hospital in self.hospitals:
            assert Ledger(hospital.home.ledger).verify() > 0

    def stop(self) -> None:
        for hospital in self.hospitals:
            hospital.stop()


# --- sites


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with tiny.serving(tmp_path / "coordinator") as server:
        made = Study(server, tmp_path)
        yield made
        made.stop()


def sent(hospital: Hospital, what: str) -> list[dict[str, Any]]:
    """What the ledger says left in the first round."""
    return [event for event in hospital.events("sent") if event["what"] == what and event.get("round") == 1]


@pytest.mark.parametrize("point", ["training", "signed", "upload", "vote"])
def test_a_site_killed(point: str, study: Study, processes: Processes, tmp_path: Path) -> None:
    victim, *others = study.hospitals
    for hospital in others:
        hospital.start()
    process = processes.agent(victim, point, tmp_path / "reached")
    wait_until((tmp_path / "reached").exists, f"the site to be in {point}")
    kill(process)
    delivered = sent(victim, "part")
    processes.agent(victim)
    study.check()
    parts = sent(victim, "part")
    assert parts[: len(delivered)] == delivered
    assert len({part["sha256"] for part in parts}) == 2, "one contribution, never sealed twice"
    if point == "upload":
        assert len(delivered) == 1
        assert len(parts) == 2, "what was delivered before the kill is not sent again"


def test_a_site_killed_in_opening(study: Study, processes: Processes, tmp_path: Path) -> None:
    running = [
        processes.agent(each, "opening", tmp_path / f"reached-{each.trainer.number}") for each in study.hospitals
    ]
    wait_until(lambda: list(tmp_path.glob("reached-*")) != [], "a site to be in opening")
    for process in running:
        kill(process)
    for hospital in study.hospitals:
        processes.agent(hospital)
    study.check()
    answers = [sent(hospital, "opening") for hospital in study.hospitals]
    assert sum(map(bool, answers)) == 1
    assert len({event["sha256"] for events in answers for event in events}) == 1, "one answer a ballot, the stored one"


# --- the coordinator


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


@pytest.mark.parametrize("point", ["collecting", "aggregating", "opening"])
def test_the_coordinator_killed(point: str, processes: Processes, tmp_path: Path) -> None:
    coordinator = Restartable(tmp_path / "coordinator", processes)
    stop: Sequence[str | Path] = () if point == "collecting" else (point, tmp_path / "reached")
    process = coordinator.start(*stop)
    with operated(coordinator) as server:
        study = Study(server, tmp_path)
        victim, *others = study.hospitals
        for hospital in others:
            hospital.start()
        if point == "collecting":
            paused = processes.agent(victim, "upload", tmp_path / "reached")
        else:
            victim.start()
        wait_until((tmp_path / "reached").exists, f"the coordinator to be in {point}")
        assert study.state() == point
        if point == "collecting":
            kill(paused)
        kill(process)
        coordinator.start()
        if point == "collecting":
            victim.start()
        study.check()
        study.stop()
