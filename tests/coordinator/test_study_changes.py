"""What an operator changes while a study lives: from the next plan on, and nothing that sites hold it to."""

from __future__ import annotations

import json

import pytest
from played_rounds import audited, play, pretend
from typer.testing import CliRunner

from coordinator.cli import app


def change(world, **wanted):
    return world.operate("PATCH", world.study, json=wanted)


def miss_the_deadline(world) -> None:
    """The attempt that collects fails, and the next one is planned, with everybody there."""
    world.clock.advance(10_000)
    for site in world.sites:
        site.task()
    world.conduct()


def test_changes_hold_from_the_next_plan_on(world) -> None:
    world.begin(4, scheme="lwe-shamir")
    before = world.sites[0].task()["plan"]
    wanted = {"fraction": 0.75, "collect_seconds": 7200, "vote_seconds": 60, "open_seconds": 90, "rounds": 9}
    shown = change(world, **wanted).json()
    assert {name: shown[name] for name in wanted} == wanted
    world.conduct()
    assert world.sites[0].task()["plan"] == before
    assert len(before["expected"]) == 4
    miss_the_deadline(world)
    after = world.sites[0].task()["plan"]
    assert (after["round"], after["attempt"]) == (1, 2)
    assert len(after["expected"]) == after["k_max"] == 3
    assert after["collect_until"] == world.clock.now() + 7200
    assert (after["vote_seconds"], after["open_seconds"]) == (60, 90)
    assert {name: world.operate("GET", world.study).json()[name] for name in wanted} == wanted


def test_the_log_has_what_was_and_what_is(world) -> None:
    world.create_study()
    change(world, fraction=0.5, rounds=2)  # as many as before
    change(world, fraction=0.5)
    (detail,) = audited(world, "study.changed")
    assert detail == {
        "study": str(world.study_id),
        "name": "study",
        "before": {"fraction": 1.0},
        "after": {"fraction": 0.5},
    }


@pytest.mark.parametrize("name", ["scheme", "release", "weighting", "recipe", "layout", "model", "k_max", "n_max"])
def test_what_sites_joined_for_stays(world, refused, name: str) -> None:
    world.create_study()
    words = refused(change(world, **{name: "lwe-shamir", "fraction": 0.5}), 422, "request-invalid")["detail"]
    assert f"{name} cannot change: sites keep what they joined a study for" in words
    assert world.operate("GET", world.study).json()["fraction"] == 1.0


class TestMinimum:
    def test_it_rises_between_rounds(self, world, refused) -> None:
        """An agent that starts in the middle of a round would refuse a plan for fewer than the study says."""
        world.begin(4, scheme="lwe-shamir")
        words = refused(change(world, minimum_contributors=4), 422, "request-invalid")["detail"]
        assert "cannot rise while a round is under way" in words
        world.operate("POST", f"{world.study}/pause")
        miss_the_deadline(world)
        assert change(world, minimum_contributors=4).json()["minimum_contributors"] == 4
        world.operate("POST", f"{world.study}/resume")
        world.conduct()
        plan = world.sites[0].task()["plan"]
        assert (plan["attempt"], plan["minimum_contributors"]) == (2, 4)

    def test_it_does_not_fall_once_a_site_has_joined_and_even_left(self, world, refused) -> None:
        world.create_study(minimum_contributors=4)
        assert change(world, minimum_contributors=3).json()["minimum_contributors"] == 3
        site = world.new_site("hospital-x")
        site.ok("PUT", f"{world.study}/membership")
        site.ok("DELETE", f"{world.study}/membership")
        words = refused(change(world, minimum_contributors=2), 422, "request-invalid")["detail"]
        assert "cannot fall from 3 to 2: sites joined for sums of 3 or more" in words


class TestRounds:
    def test_not_below_what_has_begun(self, world, refused) -> None:
        world.begin(rounds=5)
        play(world)
        words = refused(change(world, rounds=1), 422, "request-invalid")["detail"]
        assert "2 are completed or under way" in words
        assert change(world, rounds=2).json()["rounds"] == 2
        play(world)
        assert world.sites[0].task()["plan"]["kind"] == "evaluation"
        words = refused(change(world, rounds=3), 422, "request-invalid")["detail"]
        assert "the last evaluation is under way" in words
        assert change(world, open_seconds=99).json()["open_seconds"] == 99
        play(world)
        ended = world.operate("GET", world.study).json()
        assert (ended["state"], ended["round"], ended["reason"]) == ("finished", 2, None)

    def test_as_many_as_are_completed_leave_the_evaluation(self, world) -> None:
        world.begin(rounds=5, scheme="lwe-shamir")
        pretend(world)
        world.operate("POST", f"{world.study}/pause")
        world.clock.advance(10_000)
        world.conduct()
        assert change(world, rounds=1).json()["rounds"] == 1
        for site in world.sites:
            site.task()
        world.operate("POST", f"{world.study}/resume")
        world.conduct()
        assert world.sites[0].task()["plan"]["kind"] == "evaluation"


def test_contradictions_are_told_all_at_once_and_change_nothing(world, refused) -> None:
    before = world.create_study(expected_sites=5)
    answer = change(world, minimum_contributors=6, rounds=4, expected_sites=65)
    document = refused(answer, 422, "request-invalid")
    assert "expected_sites is 65, outside minimum_contributors to k_max (6 to 64)" in document["detail"]
    assert "expected_sites is 5, outside" in change(world, minimum_contributors=6).json()["detail"]
    before["waiting"] = None
    assert world.operate("GET", world.study).json() == before


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"fraction": 0}, "fraction"),
        ({"fraction": 1.5}, "fraction"),
        ({"rounds": 10**20}, "rounds"),
        ({"minimum_contributors": 1}, "minimum_contributors"),
        ({"collect_seconds": 0}, "collect_seconds"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_numbers_out_of_range(world, refused, wanted, words: str) -> None:
    world.create_study()
    assert words in refused(change(world, **wanted), 422, "request-invalid")["detail"]


def test_a_study_that_is_over_changes_no_more(world, refused) -> None:
    world.create_study()
    world.operate("POST", f"{world.study}/stop")
    document = refused(change(world, fraction=0.5), 409, "study-state")
    assert document["state"] == "stopped"
    assert "Clone it" in document["detail"]


def test_operators_only(world, refused) -> None:
    world.create_study()
    refused(world.operate("PATCH", world.study, world.auditor, json={"fraction": 0.5}), 403, "role-missing")
    refused(world.new_site("hospital-x").call("PATCH", world.study, json={"fraction": 0.5}), 403, "role-missing")


def test_a_fraction_may_be_said_when_a_study_is_made(world) -> None:
    assert world.create_study(fraction=0.4)["fraction"] == 0.4


class TestWaiting:
    def test_operators_are_told_what_a_running_study_lacks(self, world) -> None:
        world.create_study()
        world.join()
        assert world.operate("GET", world.study).json()["waiting"] is None  # a draft waits for nobody
        world.operate("POST", f"{world.study}/start")
        assert world.operate("GET", world.study).json()["waiting"] == "no site has dealt a key yet"
        world.deal()
        assert world.operate("GET", world.study).json()["waiting"] is None
        world.clock.advance(1000)
        for site in world.sites[:2]:
            assert site.ok("GET", world.study).json()["waiting"] is None
        told = world.operate("GET", world.study, world.auditor).json()["waiting"]
        assert told.startswith("2 of at least 3 sites are ready: 3 joined, 2 of them were heard of lately")

    def test_nothing_while_a_round_is_under_way(self, world) -> None:
        world.begin(scheme="lwe-shamir")
        assert world.operate("GET", world.study).json()["waiting"] is None


# --- on the server


@pytest.fixture
def run(world, monkeypatch):
    monkeypatch.setenv("PLEURA_DATABASE_URL", str(world.services.settings.database_url))

    def run(*words: str, code: int = 0):
        data = world.services.settings.data_dir
        result = CliRunner().invoke(app, ["study", *words, "--data-dir", str(data)])
        assert result.exit_code == code, result.output
        return result

    return run


def test_on_the_server(world, run) -> None:
    world.create_study()
    words = run("change", "study", "--fraction", "0.5", "--vote-seconds", "60", "--expected-sites", "4").stdout
    assert "a round asks 0.5 of the sites, waits 3600 s for contributions, 60 s for votes and 300 s" in words
    assert "the first with 4 sites or more" in words
    assert json.loads(run("change", "study", "--rounds", "7", "--json").stdout)["rounds"] == 7
    (first, second) = audited(world, "study.changed")
    assert first["before"] == {"fraction": 1.0, "expected_sites": None, "vote_seconds": 300}
    assert second["after"] == {"rounds": 7}
    assert "fraction: Input should be greater than 0" in run("change", "study", "--fraction", "0", code=2).stderr
    assert "There is no study" in run("change", "nothing", "--fraction", "1", code=1).stderr


def test_show_says_what_is_waited_for(world, run) -> None:
    world.create_study()
    world.operate("POST", f"{world.study}/start")
    assert "the next round waits: no site has dealt a key yet" in run("show", "study").stdout
    assert json.loads(run("show", "study", "--json").stdout)["waiting"] == "no site has dealt a key yet"
