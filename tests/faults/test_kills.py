"""SIGKILL at the worst moments: each process resumes, the round completes, and the model is the right one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_federation as tiny
from processes import Processes, Restartable, kill, operated
from tiny_federation import Hospital, Server, wait_until

from crypto.layout import Layout, Tensor
from participant.ledger import Ledger

# Above one part of 4 MiB, so that an upload has a middle.
LAYOUT = Layout((Tensor("weight", (1100, 1000), "parameter"), Tensor("bias", (7,), "parameter")), tiny.LAYOUT.counts)
WISHES = {"expected_sites": 3, "rounds": 1, "collect_seconds": 90, "vote_seconds": 60, "open_seconds": 90}


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.end()


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
