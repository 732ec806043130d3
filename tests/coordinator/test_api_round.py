"""A whole study over HTTP: two training rounds and the evaluation, with the real conductor between the calls."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import load

from crypto.plan import Roster


def run_round(world) -> None:
    for site in world.sites:
        site.contribution = None
        site.contribute()
    world.conduct()
    for site in world.sites:
        assert site.vote().status_code == 204
    world.conduct()
    (asked,) = world.sites[0].task()["openers"]
    opener = world.site(asked)
    assert opener.send(f"{world.attempt}/opening", opener.opening()).status_code == 204
    world.conduct()


def test_a_study_runs_to_its_end(world) -> None:
    world.begin()
    for _ in range(3):
        run_round(world)
    study = world.sites[0].ok("GET", world.study).json()
    assert (study["state"], study["round"], study["member"]) == ("finished", 2, True)
    rounds = world.operate("GET", f"{world.study}/rounds", world.auditor).json()
    assert [(entry["kind"], entry["state"]) for entry in rounds] == [
        ("training", "complete"),
        ("training", "complete"),
        ("evaluation", "complete"),
    ]
    assert all(len(entry["contributors"]) == 3 and entry["votes"] == 3 for entry in rounds)
    assert rounds[-1]["metrics"]["cases"] == 30
    first = load(world.sites[0].ok("GET", f"/v1/models/{study['first_model']}").content)
    last = load(world.sites[0].ok("GET", f"/v1/models/{study['model']}").content)
    # Two rounds of 0.25 each; weights of 10 / 1,000 cases and room for 64 sites leave some 1e-5 of noise.
    np.testing.assert_allclose(last["weight"] - first["weight"], 0.5, atol=1e-4)


def test_the_task_follows_the_round(world) -> None:
    world.begin()
    one = world.sites[0]
    before = one.task()
    assert (before["phase"], before["contributed"], before["ballot"]) == ("collecting", False, None)
    assert before["plan"]["expected"] == sorted(str(site.id) for site in world.sites)
    one.contribute()
    after = one.task()
    assert after["contributed"]
    for site in world.sites[1:]:
        site.contribute()
    world.conduct()
    opening = one.task()
    assert (opening["phase"], opening["voted"], opening["votes"], opening["openers"]) == ("opening", False, 0, [])
    one.vote()
    assert (one.task()["voted"], one.task()["votes"]) == (True, 1)


def test_the_last_attempt_is_told(world) -> None:
    world.begin()
    run_round(world)
    last = world.sites[0].task()["last"]
    assert (last["round"], last["attempt"], last["state"], last["reason"]) == (1, 1, "complete", None)
    assert sorted(last["contributors"]) == sorted(str(site.id) for site in world.sites)
    assert last["model"] == world.sites[0].ok("GET", world.study).json()["model"]


def test_a_roster_that_is_known_does_not_travel_again(world) -> None:
    world.begin()
    one = world.sites[0]
    task = one.task()
    digest = task["plan"]["roster"]
    assert Roster.from_json(task["roster"]).digest == digest
    assert one.ok("GET", f"{world.study}/task?known={digest}").json() == task | {"roster": None}
    assert one.ok("GET", f"{world.study}/task?known={'0' * 64}").json() == task
    assert one.ok("GET", f"{world.study}/roster?known={digest}").status_code == 204
    listed = one.ok("GET", f"{world.study}/roster?known={'0' * 64}")
    assert listed.headers["content-type"] == "application/json"
    assert Roster.from_json(listed.json()).digest == digest
