"""Studies side by side, over HTTP and on the server."""

from __future__ import annotations

import json

import pytest
from played_rounds import begin_with_the_same_sites, pretend
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.store.tables import Study


@pytest.fixture
def compared(world):
    """`study` with two complete rounds and its evaluation, and `half` with one, another fraction and learning rate."""
    world.begin(4, rounds=2, scheme="lwe-shamir")
    pretend(world, 3)
    world.first = str(world.study_id)
    made = world.operate("POST", f"{world.study}/clone", json={"name": "half", "fraction": 0.75}).json()

    def retrain(session) -> None:
        row = session.get_one(Study, world.study_id)
        row.recipe = {**row.recipe, "training": {"lr": 0.1}}

    world.services.store.run("retrain", retrain)
    world.clock.advance(30)
    begin_with_the_same_sites(world, made["id"])
    world.clock.advance(30)
    pretend(world)
    world.second = made["id"]
    return world


def ask(world, *studies: str, token: str | None = None):
    return world.operate("GET", "/v1/studies/compare", token, params={"study": list(studies)})


def test_settings_that_differ_and_no_others(compared) -> None:
    found = ask(compared, compared.first, compared.second, token=compared.auditor).json()
    assert [(each["name"], each["state"], each["completed"]) for each in found["studies"]] == [
        ("study", "finished", 2),
        ("half", "running", 1),
    ]
    assert found["settings"] == {"fraction": [1.0, 0.75], "recipe.training.lr": [0.1, None]}


def test_rounds_side_by_side(compared) -> None:
    found = ask(compared, compared.second, compared.first).json()["rounds"]
    assert [[each and each["round"] for each in row] for row in found] == [[1, 1], [None, 2], [None, 3]]
    assert [row[1]["kind"] for row in found] == ["training", "training", "evaluation"]
    half, whole = found[0]
    assert (half["contributors"], whole["contributors"]) == (3, 4)
    assert (half["seconds"], whole["seconds"]) == (30, 0)
    for study, place in ((compared.second, 0), (compared.first, 1)):
        rows = compared.operate("GET", f"/v1/studies/{study}/rounds").json()
        for row, mine in zip([each for each in rows if each["state"] == "complete"], found, strict=False):
            told = mine[place]
            assert told["loss"] == row["metrics"]["loss"] > 0
            assert told["macro_auc"] == row["metrics"]["macro_auc"] > 0.5
            assert told["macro_auc_interval"] == row["metrics"]["intervals"]["macro_auc"]
            assert told["received"] == row["bytes_received"] == 1000 * told["contributors"]


def test_three_and_one_twice(compared) -> None:
    found = ask(compared, compared.first, compared.second, compared.first).json()
    assert found["settings"]["fraction"] == [1.0, 0.75, 1.0]
    assert [row[0] == row[2] for row in found["rounds"]] == [True] * 3


def test_members_of_all_may_compare(compared, refused) -> None:
    path = f"/v1/studies/compare?study={compared.first}&study={compared.second}"
    member, newcomer = compared.sites[0], compared.new_site("hospital-x")
    assert len(member.ok("GET", path).json()["rounds"]) == 3
    newcomer.ok("PUT", f"/v1/studies/{compared.second}/membership")
    refused(newcomer.call("GET", path), 403, "not-a-member")


def test_two_to_six_studies_that_are_there(world, refused) -> None:
    study = world.create_study()["id"]
    for number in (0, 1, 7):
        refused(ask(world, *[study] * number), 422, "request-invalid")
    assert ask(world, *[study] * 6).json()["rounds"] == []
    refused(ask(world, study, "6f1f6a0e-8d0c-4a0e-bb1b-3b7f0f8a2a11"), 404, "not-found")


@pytest.fixture
def run(compared, monkeypatch):
    monkeypatch.setenv("PLEURA_DATABASE_URL", compared.services.settings.database_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str, code: int = 0):
        data = compared.services.settings.data_dir
        result = CliRunner().invoke(app, ["study", "compare", *words, "--data-dir", str(data)])
        assert result.exit_code == code, result.output
        return result

    return run


def test_on_the_server(compared, run) -> None:
    words = run("study", "half").stdout
    lines = [line.split() for line in words.splitlines()]
    assert ["Setting", "study", "half"] in lines
    assert ["fraction", "1.0", "0.75"] in lines
    assert ["recipe.training.lr", "0.1"] in lines
    seconds = lines[lines.index(["Seconds"]) + 2 :]
    assert seconds[:3] == [["1", "0", "30"], ["2", "0"], ["3", "0"]]
    auc = compared.operate("GET", f"/v1/studies/{compared.first}/rounds").json()[0]["metrics"]
    low, high = auc["intervals"]["macro_auc"]
    assert f"{auc['macro_auc']:.3f} ({low:.3f} to {high:.3f})" in words
    assert json.loads(run("study", "half", "--json").stdout) == ask(compared, compared.first, compared.second).json()
    assert "name 2 to 6 studies" in run("study", code=2).stderr
