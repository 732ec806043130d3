"""What a hospital's policy refuses, where both operators read it: real agents against the real coordinator."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import tiny_federation as tiny
from tiny_federation import Hospital, Server, wait_until

from crypto.layout import Layout
from participant import setup
from participant.agent import Agent
from participant.policy import load_policy
from participant.progress import Lines
from participant.settings import dump

Enrol = Callable[..., Hospital]


def allow(hospital: Hospital, **rules: Any) -> None:
    hospital.home.policy.write_text(dump(load_policy(hospital.home.policy).model_copy(update=rules)))


def once(hospital: Hospital) -> None:
    with setup.open_site(hospital.home, Lines(), make_trainer=lambda _: hospital.trainer) as site:
        Agent().run(site, "once")


def page(server: Server, path: str) -> str:
    token = server.http.headers["Authorization"].removeprefix("Bearer ")
    cookie = server.http.post("/login", data={"token": token}).headers["set-cookie"].split(";")[0]
    return server.http.get(path, headers={"Cookie": cookie}).text


def audited(server: Server, action: str) -> list[dict[str, Any]]:
    return [row["detail"] for row in server.http.get("/v1/audit", params={"action": action}).json()]


def test_both_operators_read_why_a_site_does_not_join(server: Server, enrol: Enrol, study: Any) -> None:
    made, hospital = study(), enrol(1)
    allow(hospital, metrics="none")
    for _ in range(2):  # each no is said once
        once(hospital)
    (refusal,) = hospital.events("refusal")
    assert refusal["code"] == "figures-not-allowed"
    assert [event["what"] for event in hospital.events("sent")] == ["enrolment", "study-refusal"]
    (row,) = audited(server, "study.refused")
    assert (row["study"], row["words"]) == (made, refusal["words"])
    assert "site-1 takes no part: the study pools figures" in page(server, f"/studies/{made}")

    allow(hospital, metrics="pooled")
    once(hospital)
    assert hospital.events("joined")
    assert "takes no part" not in page(server, f"/studies/{made}")


def test_a_member_that_refuses_says_so_and_may_come_back(server: Server, enrol: Enrol, study: Any) -> None:
    made, hospital = study(), enrol(1)
    once(hospital)
    allow(hospital, recipes=["ucadi"])
    once(hospital)
    assert "site-1 takes no part: the recipe tiny" in page(server, f"/studies/{made}")
    allow(hospital, recipes="any")
    once(hospital)
    assert "takes no part" not in page(server, f"/studies/{made}")


def test_without_metrics_nothing_but_the_update_leaves(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    layout, recipe = Layout(tiny.LAYOUT.tensors), tiny.recipe(weighting="equal", rounds=1)
    base = tiny.save_first_model(tmp_path / "first.safetensors", layout, recipe)
    study = server.create_study(tmp_path / "first.safetensors", expected_sites=3)["id"]
    hospitals = [enrol(number) for number in (1, 2, 3)]
    for hospital in hospitals:
        allow(hospital, metrics="none")
        hospital.start()
    wait_until(lambda: bool(server.study(study)["state"] == "finished"), "the study to finish")
    (row,) = server.rounds(study)
    counts = server.http.get(f"/v1/studies/{study}/rounds/1/1/counts").json()
    assert (counts["samples"], counts["capped_samples"], counts["recipe"]) == (0, 0, {})
    assert (row["metrics"]["cases"], row["metrics"]["loss"], row["epsilon"]) == (0, None, None)
    found = server.vector(server.study(study)["model"], tmp_path, layout)
    mean = sum(hospital.trainer.update(layout.size, 1).astype(float) for hospital in hospitals) / 3
    assert abs(found - base - mean).max() < 1e-4


def test_outside_its_hours_a_site_says_so_and_helps_to_open(server: Server, enrol: Enrol, study: Any) -> None:
    """Its hours begin after the round has closed: it is done without, and its vote counts as any."""
    made = study(expected_sites=4, rounds=1, collect_seconds=6)
    hospitals = [enrol(number) for number in (1, 2, 3, 4)]
    later = datetime.fromtimestamp(time.time()) + timedelta(hours=3)
    allow(hospitals[3], training_hours=f"{later:%H}:00-{later + timedelta(hours=2):%H}:00")
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: bool(server.study(made)["state"] == "finished"), "the study to finish")
    first, _ = server.rounds(made)
    assert len(first["contributors"]) == 3
    (refusal,) = first["refusals"]
    assert "policy.toml allows training" in refusal["words"]
    assert "site-4: policy.toml allows training" in page(server, f"/studies/{made}/rounds/1/1")
    assert "outside-hours" in [event["code"] for event in hospitals[3].events("refusal")]
    assert [event["round"] for event in hospitals[3].events("sent") if event["what"] == "vote"] == [1, 2]


def test_within_the_round_a_site_waits_for_its_hours(server: Server, enrol: Enrol, study: Any, look: Any) -> None:
    made = study(expected_sites=3, rounds=1, collect_seconds=30 * 3600)
    hospitals = [enrol(number) for number in (1, 2, 3)]
    now = time.time()
    local = datetime.fromtimestamp(now) + timedelta(hours=3)
    allow(hospitals[0], training_hours=f"{local:%H}:00-{local + timedelta(hours=2):%H}:00")

    def contributed() -> int:
        look(*hospitals, clock=now)
        rows = server.rounds(made)
        return len(rows[0]["contributors"]) if rows else 0

    wait_until(lambda: contributed() == 2, "the two others")
    look(hospitals[0], clock=now, times=3)
    assert not [event for event in hospitals[0].events("sent") if event["what"] == "part"]
    assert not hospitals[0].events("refusal")
    look(hospitals[0], clock=now + 3 * 3600)
    assert [event for event in hospitals[0].events("sent") if event["what"] == "manifest"]


def test_uploads_keep_to_their_rate(server: Server, enrol: Enrol, study: Any) -> None:
    made = study(expected_sites=3, rounds=1)
    hospitals = [enrol(number) for number in (1, 2, 3)]
    allow(hospitals[0], upload_rate=200_000)
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: bool(server.study(made)["state"] == "finished"), "the study to finish")
    assert server.rounds(made)[0]["attempt"] == 1
