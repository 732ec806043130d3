"""A study with differential privacy, from its recipe to its page: real agents against the real coordinator."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_federation as tiny
from tiny_federation import Hospital, Server, wait_until
from typer.testing import CliRunner

from coordinator.rounds import planning
from crypto.layout import Layout
from crypto.privacy import Privacy, length
from participant.cli import app
from participant.evaluate_command import figures_here
from participant.policy import load_policy
from participant.settings import dump

Enrol = Callable[..., Hospital]
LAYOUT = Layout(tiny.LAYOUT.tensors)
PROMISE = Privacy(clip=0.5, noise_multiplier=2.0, delta=1e-5)
RECIPE = tiny.recipe(weighting="equal") | {"privacy": PROMISE.model_dump()}


def create(server: Server, folder: Path, recipe: dict[str, Any] = RECIPE, **wishes: Any) -> tuple[str, Any]:
    base = tiny.save_first_model(folder / "first.safetensors", LAYOUT, recipe)
    return str(server.create_study(folder / "first.safetensors", expected_sites=3, **wishes)["id"]), base


def run(server: Server, study: str, hospitals: list[Hospital]) -> None:
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: bool(server.study(study)["state"] == "finished"), "the study to finish")
    for hospital in hospitals:
        assert hospital.thread is not None
        hospital.thread.join(20)


def page(server: Server, path: str) -> str:
    token = server.http.headers["Authorization"].removeprefix("Bearer ")
    cookie = server.http.post("/login", data={"token": token}).headers["set-cookie"].split(";")[0]
    return server.http.get(path, headers={"Cookie": cookie}).text


@pytest.mark.parametrize("scheme", ["lwe-ckks", "lwe-shamir"])
def test_two_private_rounds(server: Server, enrol: Enrol, tmp_path: Path, scheme: str) -> None:
    study, base = create(server, tmp_path, scheme=scheme)
    hospitals = [enrol(number) for number in (1, 2, 3)]
    run(server, study, hospitals)

    rows = server.rounds(study)
    assert [(row["kind"], row["state"]) for row in rows] == [("training", "complete")] * 2, "nothing to evaluate"
    assert [row["epsilon"] for row in rows] == pytest.approx([PROMISE.epsilon(1), PROMISE.epsilon(2)])
    assert all(set(row["plan"]["bounds"]) == {PROMISE.bound(3)} for row in rows)
    found = server.study(study)
    assert found["privacy"]["epsilon"] == pytest.approx(PROMISE.epsilon(2))
    assert found["privacy"]["deviation"] == 1.0

    mean = np.zeros(LAYOUT.size)
    for row in rows:
        updates = [hospital.trainer.update(LAYOUT.size, row["round"]).astype(float) for hospital in hospitals]
        mean += sum(each * 0.5 / length(each) for each in updates) / 3
    noise = server.vector(found["model"], tmp_path, LAYOUT) - base - mean
    assert noise.std() == pytest.approx(PROMISE.deviation * math.sqrt(2) / 3, rel=0.05)  # two rounds, three sites

    for hospital in hospitals:
        assert not list(hospital.home.residuals.glob("*")), "nothing of an update is carried to the next"
        assert {event["what"] for event in hospital.events("sent")}.isdisjoint({"site-evaluation"})
    shown = page(server, f"/studies/{study}")
    assert "Differential privacy" in shown
    assert f"{PROMISE.epsilon(1):.2f}" in shown
    assert f"{PROMISE.epsilon(2):.2f}" in shown
    assert "of whole sites" in shown
    assert "count nothing on their cases" in shown
    status = CliRunner().invoke(app, ["--home", str(hospitals[0].home.path), "status"]).output
    assert f"epsilon {PROMISE.epsilon(2):.2f} at most by now, with 2 contributions" in status
    assert "of whole sites" in status


def test_a_site_stops_where_its_policy_says_it_told_enough(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    study, _ = create(server, tmp_path)
    hospitals = [enrol(number) for number in (1, 2, 3)]
    policy = load_policy(hospitals[0].home.policy).model_copy(update={"privacy_epsilon": PROMISE.epsilon(2) - 0.01})
    hospitals[0].home.policy.write_text(dump(policy))
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: bool(hospitals[0].events("refusal")), "the refusal")
    assert hospitals[0].events("refusal")[0]["code"] == "privacy-spent"
    wait_until(lambda: "site-1 takes no part: epsilon would be" in page(server, f"/studies/{study}"), "the page")


def test_plans_that_break_the_promise_are_refused(
    server: Server, enrol: Enrol, tmp_path: Path, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator that says one thing in its recipe and another in its plan: here, by smaller bounds."""
    study, _ = create(server, tmp_path)
    hospitals = [enrol(number) for number in (1, 2, 3)]
    monkeypatch.setattr(planning, "_bounds", lambda view: (1.0,) * len(view.bounds))
    wait_until(lambda: bool(look(*hospitals) and server.rounds(study)), "a plan")
    look(*hospitals, times=2)
    for hospital in hospitals:
        (refusal,) = hospital.events("refusal")
        assert refusal["code"] == "privacy-broken"
        assert "all bounds are" in refusal["words"]


@pytest.mark.parametrize("weighting", ["samples", "dynamic"])
def test_a_coordinator_does_not_weigh_private_updates(server: Server, tmp_path: Path, weighting: str) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors", LAYOUT, RECIPE)
    model = server.http.post("/v1/models", content=(tmp_path / "first.safetensors").read_bytes()).json()["model"]
    answer = server.http.post("/v1/studies", json={"name": "heavy", "model": model, "weighting": weighting})
    assert answer.status_code == 422
    assert "all sites weigh alike" in answer.json()["detail"]


def test_a_coordinator_does_not_count_beside_private_updates(server: Server, tmp_path: Path) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors", tiny.LAYOUT, RECIPE)
    model = server.http.post("/v1/models", content=(tmp_path / "first.safetensors").read_bytes()).json()["model"]
    answer = server.http.post("/v1/studies", json={"name": "counting", "model": model})
    assert answer.status_code == 422
    assert "opened without noise" in answer.json()["detail"]


def test_a_site_may_look_at_its_own_figures_where_none_are_pooled(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    create(server, tmp_path)
    hospital = enrol(1)
    with hospital.open() as site:
        (study,) = site.client.studies()
        site.client.join(study.id)
        assert figures_here(site, study).cases == 10
