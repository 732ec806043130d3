"""Agents against the real coordinator over HTTP: what one says the other understands, and the mean is the mean."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_federation as tiny
from tiny_federation import Hospital, Server, wait_until

from crypto.plan import Plan
from participant.ledger import Ledger
from participant.session import Problem

Enrol = Callable[..., Hospital]


def finished(server: Server, study: str) -> Callable[[], bool]:
    return lambda: bool(server.study(study)["state"] == "finished")


def test_two_rounds_and_an_evaluation(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    base = tiny.save_first_model(tmp_path / "first.safetensors")
    study = server.create_study(tmp_path / "first.safetensors", expected_sites=3)["id"]
    hospitals = [enrol(number) for number in (1, 2, 3)]
    for hospital in hospitals:
        hospital.start()
    wait_until(finished(server, study), "the study to finish")

    rows = server.rounds(study)
    assert [(row["round"], row["kind"], row["state"]) for row in rows] == [
        (1, "training", "complete"),
        (2, "training", "complete"),
        (3, "evaluation", "complete"),
    ]
    found = server.vector(server.study(study)["model"], tmp_path)
    tiny.check_model(found, base, rows, [hospital.trainer for hospital in hospitals])

    for hospital in hospitals:
        assert hospital.thread is not None
        hospital.thread.join(20)
        assert not hospital.thread.is_alive(), "run --until-finished ends by itself"
        assert Ledger(hospital.home.ledger).verify() > 10
        assert not list(hospital.home.sealed.glob("*/*")), "nothing sealed is left"
        assert (hospital.home.models / f"{server.study(study)['model']}.safetensors").is_file()
        timings = hospital.timings()
        assert [(line["round"], line["attempt"]) for line in timings] == [(1, 1), (2, 1), (3, 1)]
        assert timings[0]["fp32_bytes"] == 4 * tiny.LAYOUT.size
        sent = [event for event in hospital.events("sent") if event.get("round") == 1]
        contributed = sum(event["bytes"] for event in sent if event["what"] in ("part", "key-part", "manifest"))
        assert timings[0]["upload_bytes"] == contributed
    openers = [line for hospital in hospitals for line in hospital.timings() if line["open_seconds"] is not None]
    assert {line["round"] for line in openers} == {1, 2, 3}


def test_what_is_clipped_comes_in_the_next_round(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    base = tiny.save_first_model(tmp_path / "first.safetensors")
    study = server.create_study(tmp_path / "first.safetensors", expected_sites=3, weighting="samples")["id"]
    hospitals = [enrol(1), enrol(2), enrol(3, scale=2.0)]
    for hospital in hospitals:
        hospital.start()
    wait_until(finished(server, study), "the study to finish")
    rows = server.rounds(study)
    found = server.vector(server.study(study)["model"], tmp_path)
    tiny.check_model(found, base, rows, [hospital.trainer for hospital in hospitals])
    bounds = [row["plan"]["bounds"] for row in rows]
    assert bounds[1][0] == 2 * bounds[0][0], "too much was clipped: the next plan's bound is twice as large"


def test_a_late_site_is_told_so_and_takes_part_again(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    wishes = {"expected_sites": 3, "minimum_contributors": 2, "collect_seconds": 3}
    study = server.create_study(tmp_path / "first.safetensors", **wishes)["id"]
    closed = threading.Event()

    def dawdle(round_number: int) -> None:
        if round_number == 1:
            closed.wait(30)

    late, *others = [enrol(3, hook=dawdle), enrol(1), enrol(2)]
    for hospital in (late, *others):
        hospital.start()
    wait_until(lambda: any(row["state"] == "complete" for row in server.rounds(study)), "round 1")
    closed.set()
    wait_until(finished(server, study), "the study to finish")

    first, second = server.rounds(study)[:2]
    assert len(first["contributors"]) == 2
    assert len(second["contributors"]) == 3
    assert not [event for event in late.events("sent") if event.get("round") == 1 and event["what"] == "part"]
    assert [event for event in late.events("sent") if event.get("round") == 1 and event["what"] == "vote"], (
        "a site that is training still votes"
    )
    late.stop()
    with late.open() as site, pytest.raises(Problem, match="takes no contributions since") as caught:
        site.client.put_part(Plan.from_json(first["plan"]), "parts", 0, b"\0" * 8192 * 2)
    assert (caught.value.status, caught.value.code) == (409, "round-closed")


def test_too_few_contributions_lead_to_a_new_attempt(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    base = tiny.save_first_model(tmp_path / "first.safetensors")
    study = server.create_study(tmp_path / "first.safetensors", expected_sites=3, collect_seconds=3, rounds=1)["id"]
    failures = [RuntimeError("patient-0042.dcm cannot be read")]

    def fail_once(round_number: int) -> None:
        if failures:
            raise failures.pop()

    hospitals = [enrol(1), enrol(2), enrol(3, hook=fail_once)]
    for hospital in hospitals:
        hospital.start()
    wait_until(finished(server, study), "the study to finish")

    first, second, _ = server.rounds(study)
    assert (first["round"], first["attempt"], first["state"]) == (1, 1, "failed")
    assert "2 of at least 3 contributions" in first["reason"]
    assert "site-3 (training failed here (RuntimeError)" in first["reason"]
    assert (second["round"], second["attempt"], second["state"]) == (1, 2, "complete")
    assert second["plan"]["base_model"] == first["plan"]["base_model"]
    found = server.vector(server.study(study)["model"], tmp_path)
    tiny.check_model(found, base, [second], [hospital.trainer for hospital in hospitals])
    (refusal,) = hospitals[2].events("refusal")
    assert refusal["code"] == "training-failed"
    assert "patient-0042" not in str(server.rounds(study)), "what names a patient stays here"


def test_a_newcomer_is_given_the_key(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    study = server.create_study(tmp_path / "first.safetensors", expected_sites=3, rounds=3)["id"]
    go_on = threading.Event()
    hospitals = [enrol(number, hook=lambda number: number < 2 or go_on.wait(30)) for number in (1, 2, 3)]
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: any(row["round"] == 2 for row in server.rounds(study)), "round 2")
    newcomer = enrol(4)
    newcomer.start()
    wait_until(lambda: list(newcomer.home.keys.glob("*/*.secret")) != [], "the newcomer to hold the key")
    go_on.set()
    wait_until(finished(server, study), "the study to finish")
    assert [len(row["contributors"]) for row in server.rounds(study)] == [3, 3, 4, 4]


def test_a_lost_home_record_sits_out_the_attempt_under_way(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    wishes = {"expected_sites": 3, "minimum_contributors": 2, "collect_seconds": 4, "rounds": 2}
    study = server.create_study(tmp_path / "first.safetensors", **wishes)["id"]
    training = threading.Event()

    def note_and_wait(number: int) -> None:
        training.set()
        if number == 1:
            hold.wait(30)

    hold = threading.Event()
    forgetful = enrol(3, hook=note_and_wait)
    for hospital in (enrol(1), enrol(2), forgetful):
        hospital.start()
    assert training.wait(30)
    forgetful.agent.stop()
    hold.set()
    forgetful.stop()
    forgetful.home.record.unlink()
    again = Hospital(forgetful.home, forgetful.trainer)
    again.start()
    wait_until(finished(server, study), "the study to finish")
    again.stop()
    assert [len(row["contributors"]) for row in server.rounds(study)][:2] == [2, 3]
    assert again.events("memory-lost")


def test_a_look_that_is_under_way_when_the_agent_ends_begins_nothing(
    study: Callable[..., str], enrol: Enrol, look: Callable[..., Any]
) -> None:
    """Else the work would outlive what it works with."""
    study(expected_sites=3)
    trained: dict[int, list[int]] = {1: [], 2: [], 3: []}
    hospitals = [enrol(number, hook=trained[number].append) for number in trained]
    look(*hospitals)[2].stop()
    wait_until(lambda: bool(look(*hospitals)) and bool(trained[1] and trained[2]), "two of them to train")
    look(*hospitals)
    assert hospitals[2].events("plan-accepted")
    assert trained[3] == []
