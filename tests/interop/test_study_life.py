"""Agents of studies that an operator changes between rounds, and takes back to an earlier model."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_federation as tiny
from tiny_federation import Hospital, Server, wait_until


@pytest.fixture
def gates() -> dict[int, threading.Event]:
    """By round: sites train no further before it is set."""
    return defaultdict(threading.Event)


@pytest.fixture
def hospitals(enrol: Callable[..., Hospital], gates: dict[int, threading.Event]) -> list[Hospital]:
    return [enrol(number, hook=lambda number: gates[number].wait(60)) for number in (1, 2, 3)]


def change(server: Server, study: str, **wanted: Any) -> None:
    answer = server.http.patch(f"/v1/studies/{study}", json=wanted)
    assert answer.is_success, answer.text


def collecting(server: Server, study: str, number: int) -> Callable[[], bool]:
    def look() -> bool:
        rows = server.http.get(f"/v1/studies/{study}/rounds").json()
        return bool(rows) and (rows[-1]["round"], rows[-1]["state"]) == (number, "collecting")

    return look


def test_no_site_refuses_a_changed_study(
    server: Server, study: Callable[..., str], hospitals: list[Hospital], gates: dict[int, threading.Event]
) -> None:
    made = study(minimum_contributors=2, expected_sites=3, rounds=2)
    for hospital in hospitals:
        hospital.start()
    wait_until(collecting(server, made, 1), "round 1")
    change(server, made, fraction=0.5, rounds=3, collect_seconds=1800)
    gates[1].set()
    wait_until(collecting(server, made, 2), "round 2")
    change(server, made, fraction=1, vote_seconds=200, open_seconds=100)
    restart(hospitals[0])  # which looks again at whether it may be a member
    assert server.http.post(f"/v1/studies/{made}/pause").is_success
    gates[2].set()
    wait_until(lambda: server.study(made)["round"] == 2, "the end of round 2")
    change(server, made, minimum_contributors=3)
    restart(hospitals[1])
    assert server.http.post(f"/v1/studies/{made}/resume").is_success
    wait_until(collecting(server, made, 3), "round 3")
    gates[3].set()
    wait_until(lambda: server.study(made)["state"] == "finished", "the study to finish")

    plans = [row["plan"] for row in server.rounds(made)]
    assert [plan["kind"] for plan in plans] == ["training"] * 3 + ["evaluation"]
    assert [len(plan["expected"]) for plan in plans] == [3, 2, 3, 3]
    assert [plan["minimum_contributors"] for plan in plans] == [2, 2, 3, 3]
    assert [(plan["vote_seconds"], plan["open_seconds"]) for plan in plans[1:3]] == [(300, 300), (200, 100)]
    assert [hospital.events("refusal") for hospital in hospitals] == [[], [], []]


def test_a_rollback_goes_on_from_the_earlier_model(
    server: Server,
    study: Callable[..., str],
    hospitals: list[Hospital],
    gates: dict[int, threading.Event],
    tmp_path: Path,
) -> None:
    made = study(expected_sites=3, rounds=3)
    for hospital in hospitals:
        hospital.until = "stopped"  # or it could end with the study, before it knows of the one made of it
        hospital.start()
    gates[1].set()
    wait_until(collecting(server, made, 2), "round 2")
    gates[2].set()
    wait_until(collecting(server, made, 3), "round 3")
    assert server.http.post(f"/v1/studies/{made}/pause").is_success
    answer = server.http.post(f"/v1/studies/{made}/rollback", json={"round": 1})
    assert answer.status_code == 201, answer.text
    better = answer.json()
    assert server.study(made)["state"] == "stopped"
    assert server.http.post(f"/v1/studies/{better['id']}/start").is_success
    gates[3].set()
    wait_until(lambda: server.study(better["id"])["state"] == "finished", "the new study to finish")

    rows = server.rounds(better["id"])
    assert [(row["round"], row["kind"]) for row in rows] == [(1, "training"), (2, "training"), (3, "evaluation")]
    base = server.vector(better["first_model"], tmp_path)
    found = server.vector(server.study(better["id"])["model"], tmp_path)
    assert better["first_model"] == server.rounds(made)[0]["model"]
    tiny.check_model(found, base, rows, [hospital.trainer for hospital in hospitals])
    refusals = [event for hospital in hospitals for event in hospital.events("refusal")]
    assert [event for event in refusals if event["study"] == better["id"]] == []


def restart(hospital: Hospital) -> None:
    hospital.stop()
    hospital.agent = type(hospital.agent)()
    hospital.start()
