"""Clones of studies, and going back to an earlier model, which makes another study (docs/decisions/0016)."""

from __future__ import annotations

import json

import pytest
from played_rounds import audited, begin_with_the_same_sites, play, pretend
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.store.tables import Study

SETTINGS = (
    "scheme",
    "release",
    "weighting",
    "rounds",
    "fraction",
    "minimum_contributors",
    "expected_sites",
    "k_max",
    "collect_seconds",
    "vote_seconds",
    "open_seconds",
    "recipe",
    "recipe_digest",
    "layout_digest",
    "first_model",
)
OTHERS = {
    "scheme": "lwe-shamir",
    "release": "members",
    "weighting": "equal",
    "rounds": 7,
    "fraction": 0.5,
    "minimum_contributors": 4,
    "expected_sites": 5,
    "k_max": 8,
    "collect_seconds": 60,
    "vote_seconds": 61,
    "open_seconds": 62,
}


def ask(world, verb: str, **wish):
    return world.operate("POST", f"{world.study}/{verb}", json=wish)


def model_of(world, number: int) -> str:
    rows = world.operate("GET", f"{world.study}/rounds").json()
    return next(row["model"] for row in rows if (row["round"], row["state"]) == (number, "complete"))


@pytest.fixture
def paused(world):
    """A study of five rounds that completed two; the third one collects."""
    world.begin(rounds=5, vote_seconds=77, scheme="lwe-shamir")
    pretend(world, 2)
    world.operate("POST", f"{world.study}/pause")
    return world


class TestClone:
    def test_it_has_the_same_settings_and_first_model(self, world) -> None:
        former = world.create_study(**OTHERS)
        answer = ask(world, "clone", name="again")
        assert answer.status_code == 201, answer.text
        made = answer.json()
        assert {name: made[name] for name in SETTINGS} == {name: former[name] for name in SETTINGS}
        assert (made["name"], made["state"], made["round"]) == ("again", "draft", 0)
        assert made["model"] == made["first_model"]
        assert made["id"] != former["id"]

    def test_apart_from_what_is_said(self, world) -> None:
        world.create_study(minimum_contributors=4)
        made = ask(world, "clone", name="again", minimum_contributors=2, fraction=0.25).json()
        assert (made["minimum_contributors"], made["fraction"]) == (2, 0.25)

    def test_a_running_study_goes_on_and_its_copy_begins_at_the_beginning(self, paused) -> None:
        paused.operate("POST", f"{paused.study}/resume")
        made = ask(paused, "clone", name="again").json()
        former = paused.operate("GET", paused.study).json()
        assert (former["state"], former["round"]) == ("running", 2)
        assert made["model"] == former["first_model"] != former["model"]

    def test_the_log_says_where_its_model_comes_from(self, paused) -> None:
        second = ask(paused, "rollback", round=1).json()
        paused.operate("POST", f"/v1/studies/{second['id']}/clone", json={"name": "third"})
        assert [detail.get("from") for detail in audited(paused, "study.created")] == [
            None,
            {"study": str(paused.study_id), "round": 1},
            {"study": str(paused.study_id), "round": 1},
        ]

    def test_what_cannot_be(self, world, refused) -> None:
        world.create_study()
        refused(ask(world, "clone", name="study"), 409, "name-taken")
        assert (
            "k_max" in refused(ask(world, "clone", name="b", minimum_contributors=65), 422, "request-invalid")["detail"]
        )
        assert (
            "scheme cannot change"
            in refused(ask(world, "clone", name="b", scheme="ckks"), 422, "request-invalid")["detail"]
        )
        answer = world.operate("POST", f"{world.study}/clone", world.auditor, json={"name": "b"})
        refused(answer, 403, "role-missing")


class TestRollback:
    def test_a_draft_goes_on_from_the_rounds_model_and_the_study_is_stopped(self, paused) -> None:
        answer = ask(paused, "rollback", round=1)
        assert answer.status_code == 201, answer.text
        made, former = answer.json(), paused.operate("GET", paused.study).json()
        assert made["first_model"] == made["model"] == model_of(paused, 1) != former["model"]
        assert (made["name"], made["state"], made["round"]) == ("study-from-1", "draft", 0)
        assert (made["rounds"], made["vote_seconds"]) == (4, 77)
        assert former["state"] == "stopped"
        assert former["reason"] == "rolled back: it goes on from the model of round 1 as 'study-from-1'"
        assert audited(paused, "study.rolled-back") == [
            {"study": former["id"], "name": "study", "round": 1, "model": made["model"], "to": made["id"]}
        ]
        assert audited(paused, "study.created")[-1]["from"] == {"study": former["id"], "round": 1}

    def test_the_attempt_under_way_is_lost(self, paused) -> None:
        ask(paused, "rollback", round=1)
        paused.conduct()
        last = paused.sites[0].task()["last"]
        assert (last["round"], last["state"], last["reason"]) == (3, "failed", "the study was stopped")

    def test_the_new_study_trains(self, world) -> None:
        """With the same hospitals, who approve each other and make a key anew."""
        world.begin(rounds=5)
        play(world)
        world.operate("POST", f"{world.study}/pause")
        made = ask(world, "rollback", round=1, name="better", collect_seconds=99).json()
        world.conduct()
        begin_with_the_same_sites(world, made["id"])
        assert world.sites[0].task()["plan"]["base_model"] == made["model"]
        play(world)
        shown = world.operate("GET", world.study).json()
        assert (shown["name"], shown["collect_seconds"], shown["round"]) == ("better", 99, 1)
        assert shown["model"] != made["model"]

    def test_a_running_study_is_paused_first(self, paused, refused) -> None:
        paused.operate("POST", f"{paused.study}/resume")
        document = refused(ask(paused, "rollback", round=1), 409, "study-state")
        assert document["state"] == "running"
        assert "Pause it first" in document["detail"]

    @pytest.mark.parametrize("number", [3, 99])
    def test_a_round_without_a_model_leaves_all_as_it_was(self, paused, refused, number: int) -> None:
        words = refused(ask(paused, "rollback", round=number), 404, "not-found")["detail"]
        assert f"has no training round {number} that is complete" in words
        assert paused.operate("GET", paused.study).json()["state"] == "paused"
        refused(ask(paused, "rollback", round=1, name="study"), 409, "name-taken")
        assert paused.operate("GET", paused.study).json()["state"] == "paused"

    def test_a_study_that_is_over_keeps_its_own_reason(self, paused) -> None:
        paused.services.store.run(
            "finish", lambda s: [setattr(s.get_one(Study, paused.study_id), *pair) for pair in ENDED_EARLY]
        )
        made = ask(paused, "rollback", round=2).json()
        former = paused.operate("GET", paused.study).json()
        assert [(name, former[name]) for name in ("state", "reason")] == ENDED_EARLY
        assert made["rounds"] == 3
        assert audited(paused, "study.rolled-back")[0]["to"] == made["id"]

    def test_models_that_only_members_hold(self, paused, refused) -> None:
        paused.services.store.run(
            "withhold", lambda s: setattr(s.get_one(Study, paused.study_id), "release", "members")
        )
        words = refused(ask(paused, "rollback", round=1), 404, "not-found")["detail"]
        assert "model new RECIPE --from FILE" in words

    def test_a_long_name_is_cut(self, paused) -> None:
        paused.services.store.run("rename", lambda s: setattr(s.get_one(Study, paused.study_id), "name", "long" * 20))
        assert ask(paused, "rollback", round=2).json()["name"] == "long" * 15 + "-from-2"


ENDED_EARLY = [("state", "finished"), ("reason", "ended early, after 2 of 5 rounds")]


# --- on the server


@pytest.fixture
def run(paused, monkeypatch):
    monkeypatch.setenv("PLEURA_DATABASE_URL", paused.services.settings.database_url)

    def run(*words: str, code: int = 0):
        data = paused.services.settings.data_dir
        result = CliRunner().invoke(app, ["study", *words, "--data-dir", str(data)])
        assert result.exit_code == code, result.output
        return result

    return run


def test_clone_on_the_server(paused, run) -> None:
    made = json.loads(run("clone", "study", "--name", "again", "--minimum-contributors", "2", "--json").stdout)
    former = paused.operate("GET", paused.study).json()
    assert (made["first_model"], made["minimum_contributors"]) == (former["first_model"], 2)
    assert "There is a study 'again' already" in run("clone", "study", "--name", "again", code=1).stderr


def test_rollback_on_the_server(paused, run) -> None:
    assert "study-from-1" in run("rollback", "study", "--round", "1").stdout
    assert "is stopped: rolled back: it goes on" in run("show", "study").stdout
    assert "begins with the model of round 1 of study" in run("show", "study-from-1").stdout
    assert "begins with" not in run("show", "study").stdout
    assert "round: Input should be greater" in run("rollback", "study", "--round", "0", code=2).stderr
