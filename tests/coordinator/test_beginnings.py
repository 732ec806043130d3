"""Studies that go on from another one's model: who may have it, where it is not to be had, what the log keeps."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.store.tables import Model, Study


@pytest.fixture
def earlier(world) -> str:
    """A study of three sites that completed a round; its name is `study`."""
    world.begin(minimum_contributors=3)
    for site in world.sites:
        site.contribute()
    world.conduct()
    for site in world.sites:
        assert site.vote().status_code == 204
    world.conduct()
    opener = world.site(world.sites[0].task()["openers"][0])
    assert opener.send(f"{world.attempt}/opening", opener.opening()).status_code == 204
    world.conduct()
    return str(world.study_id)


def create(world, **wish):
    return world.operate("POST", "/v1/studies", json={"name": "second", **wish})


def model_of(world, round_number: int) -> str:
    rows = world.operate("GET", f"{world.study}/rounds").json()
    return next(row["model"] for row in rows if (row["round"], row["state"]) == (round_number, "complete"))


@pytest.mark.parametrize("wish", [{}, {"from_round": 1}], ids=str)
def test_the_new_study_begins_with_the_model_of_the_round(world, earlier, wish) -> None:
    made = create(world, from_study=earlier, rounds=7, **wish).json()
    former = world.operate("GET", world.study).json()
    assert made["first_model"] == made["model"] == model_of(world, 1) != former["first_model"]
    assert (made["recipe"], made["layout_digest"]) == (former["recipe"], former["layout_digest"])
    assert made["recipe_digest"] == former["recipe_digest"]
    assert (made["rounds"], made["round"], made["state"]) == (7, 0, "draft")
    created = [row for row in world.operate("GET", "/v1/audit").json() if row["action"] == "study.created"]
    assert created[-1]["detail"]["from"] == {"study": earlier, "round": 1}
    assert "from" not in created[0]["detail"]


def test_its_members_may_download_it_and_nobody_else(world, earlier, refused) -> None:
    made = create(world, from_study=earlier).json()
    newcomer, stranger = world.new_site("hospital-x"), world.new_site("hospital-y")
    path = f"/v1/models/{made['first_model']}"
    refused(newcomer.call("GET", path), 403, "not-a-member")
    newcomer.ok("PUT", f"/v1/studies/{made['id']}/membership")
    assert newcomer.ok("GET", path).content == world.sites[0].ok("GET", path).content
    refused(stranger.call("GET", path), 403, "not-a-member")
    first = world.operate("GET", world.study).json()["first_model"]
    refused(newcomer.call("GET", f"/v1/models/{first}"), 403, "not-a-member")


@pytest.mark.parametrize("number", [2, 99])
def test_a_round_that_made_no_model(world, earlier, refused, number) -> None:
    words = refused(create(world, from_study=earlier, from_round=number), 404, "not-found")["detail"]
    assert f"'study' has no training round {number} that is complete" in words


def test_a_study_without_a_round(world, refused) -> None:
    study = world.create_study()["id"]
    assert "has no round" in refused(create(world, from_study=study), 404, "not-found")["detail"]


def test_models_that_only_members_hold(world, earlier, refused) -> None:
    def withhold(session) -> None:
        session.get_one(Study, world.study_id).release = "members"

    world.services.store.run("withhold", withhold)
    words = refused(create(world, from_study=earlier), 404, "not-found")["detail"]
    assert "released to its members only" in words
    assert "model new RECIPE --from FILE" in words


@pytest.mark.parametrize(
    "wish",
    [{}, {"model": "ab" * 32, "from_study": str(UUID(int=1))}, {"model": "ab" * 32, "from_round": 1}],
    ids=str,
)
def test_one_beginning_and_no_other(world, refused, wish) -> None:
    refused(create(world, **wish), 422, "request-invalid")


# --- on the server


@pytest.fixture
def run(world, earlier):
    def run(*words: str, code: int = 0):
        data = world.services.settings.data_dir
        result = CliRunner().invoke(app, ["study", "create", *words, "--data-dir", str(data)])
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.mark.parametrize("reference", ["study", "study:1"])
def test_by_name_and_round(run, world, reference) -> None:
    made = json.loads(run("--name", "second", "--from", reference, "--minimum-contributors", "2", "--json").stdout)
    assert made["first_model"] == model_of(world, 1)
    row = world.services.store.read("model", lambda s: s.get_one(Model, made["first_model"]))
    assert (row.study_id, row.round) == (world.study_id, 1)


def test_small_sums_are_told_to_the_operator(run) -> None:
    assert (
        "each can subtract its own part" in run("--name", "a", "--from", "study", "--minimum-contributors", "2").stdout
    )
    assert "subtract" not in run("--name", "b", "--from", "study").stdout


def test_what_cannot_be_begun_with(run, tmp_path) -> None:
    assert "has no training round 9" in run("--name", "c", "--from", "study:9", code=1).stderr
    assert "There is no study" in run("--name", "c", "--from", "nothing", code=1).stderr
    (tmp_path / "first.safetensors").write_bytes(b"x")
    both = ("--model", str(tmp_path / "first.safetensors"), "--from", "study")
    for words in ((), both):
        assert "give either a model's file or the study" in " ".join(
            run("--name", "c", *words, code=2).stderr.replace("│", " ").split()
        )
