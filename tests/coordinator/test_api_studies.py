"""Studies: from the recipe to a draft, and between states."""

from __future__ import annotations

import pytest

from coordinator.store.tables import Study


def test_what_is_not_said_is_the_recipes(world) -> None:
    study = world.create_study()
    assert (study["rounds"], study["minimum_contributors"], study["weighting"]) == (2, 3, "samples")
    assert (study["state"], study["round"], study["scheme"]) == ("draft", 0, "lwe-ckks")
    assert study["model"] == study["first_model"]
    row = world.services.store.read("study", lambda session: session.get_one(Study, world.study_id))
    assert (row.n_max, row.fraction, row.k_max) == (1000, 1.0, 64)
    assert row.bounds == [1.0, 64.0]


def test_what_is_said_wins(world) -> None:
    study = world.create_study(rounds=7, minimum_contributors=2, weighting="equal", expected_sites=5, k_max=8)
    asked = ("rounds", "minimum_contributors", "weighting", "expected_sites")
    assert tuple(study[name] for name in asked) == (7, 2, "equal", 5)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"minimum_contributors": 9, "k_max": 8}, "k_max"),
        ({"expected_sites": 2, "minimum_contributors": 3}, "expected_sites"),
        ({"scheme": "rot13"}, "scheme"),
        ({"rounds": 0}, "rounds"),
        ({"scheme": "ckks", "release": "members"}, "not offered with the scheme 'ckks'"),
        ({"minimum_contributors": 1}, "minimum_contributors"),
        ({"colour": "red"}, "colour"),
        ({"name": ""}, "name"),
    ],
    ids=str,
)
def test_studies_that_cannot_be(world, make_model, refused, wish, words: str) -> None:
    model = world.operate("POST", "/v1/models", content=make_model()).json()["model"]
    answer = world.operate("POST", "/v1/studies", json={"name": "study", "model": model, **wish})
    assert words in refused(answer, 422, "request-invalid")["detail"]


def test_a_name_that_is_taken_and_a_model_that_is_not_there(world, refused) -> None:
    model = world.create_study()["model"]
    again = world.operate("POST", "/v1/studies", json={"name": "study", "model": model})
    refused(again, 409, "name-taken")
    refused(world.operate("POST", "/v1/studies", json={"name": "b", "model": "ab" * 32}), 404, "not-found")


def test_states(world, refused) -> None:
    world.create_study()

    def move(action: str):
        return world.operate("POST", f"{world.study}/{action}")

    for action in ("pause", "resume"):
        document = refused(move(action), 409, "study-state")
        assert document["state"] == "draft"
    for action, state in {"start": "running", "pause": "paused", "resume": "running", "stop": "stopped"}.items():
        assert move(action).json()["state"] == state
    for action in ("start", "pause", "resume", "stop"):
        assert "is stopped" in refused(move(action), 409, "study-state")["detail"]
    actions = [row["action"] for row in world.operate("GET", "/v1/audit").json()]
    assert [action for action in actions if action.startswith("study.")] == [
        "study.created",
        "study.start",
        "study.pause",
        "study.resume",
        "study.stop",
    ]


def test_members_join_and_leave(world, refused) -> None:
    world.create_study()
    site = world.new_site("hospital-x")
    refused(site.call("GET", f"{world.study}/roster"), 404, "not-found")
    for path in ("task", "rounds"):
        refused(site.call("GET", f"{world.study}/{path}"), 403, "not-a-member")
    for _ in range(2):
        assert site.call("PUT", f"{world.study}/membership").status_code == 204
    (member,) = site.ok("GET", f"{world.study}/roster").json()["members"]
    assert (member["site"], member["index"]) == (str(site.id), 1)
    assert site.ok("GET", "/v1/studies").json()[0]["member"]
    other = world.new_site("hospital-y")
    other.ok("PUT", f"{world.study}/membership")
    for _ in range(2):
        assert site.call("DELETE", f"{world.study}/membership").status_code == 204
    site.ok("PUT", f"{world.study}/membership")
    roster = site.ok("GET", f"{world.study}/roster").json()
    assert {entry["name"]: entry["index"] for entry in roster["members"]} == {"hospital-x": 1, "hospital-y": 2}


def test_a_study_that_ended_takes_no_members(world, refused) -> None:
    world.create_study()
    world.operate("POST", f"{world.study}/stop")
    site = world.new_site("hospital-x")
    refused(site.call("PUT", f"{world.study}/membership"), 409, "study-state")


def test_a_study_that_is_not_there(world, refused) -> None:
    site, nowhere = world.new_site("hospital-x"), f"/v1/studies/{'0' * 8}-0000-4000-8000-{'0' * 12}"
    for method, path in [
        ("GET", ""),
        ("GET", "/task"),
        ("GET", "/epoch"),
        ("GET", "/rounds"),
        ("GET", "/rounds/1/1/plan"),
        ("PUT", "/membership"),
        ("PUT", f"/keys/{'2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881'}"),
    ]:
        refused(site.call(method, nowhere + path, content=b"x" if "keys" in path else None), 404, "not-found")


def test_a_failed_attempt_is_told_with_its_reason(world) -> None:
    world.begin()
    world.sites[0].contribute()
    world.clock.advance(3601)
    world.conduct()
    last = world.sites[0].task()["last"]
    assert (last["state"], last["contributors"]) == ("failed", [])
    assert "1 of at least 3 contributions" in last["reason"]
    assert last["model"] == world.sites[0].ok("GET", world.study).json()["model"]


class TestWaiting:
    def test_an_unknown_cursor_is_answered_at_once(self, world) -> None:
        world.begin()
        assert world.sites[0].ok("GET", f"{world.study}/task?cursor=old&wait=25").json()["phase"] == "collecting"

    def test_news_end_the_wait(self, world) -> None:
        """The study is paused while a site waits; it is told long before its 25 s are over."""
        world.begin()
        site = world.sites[0]
        cursor = site.task()["cursor"]
        looks = []
        read = world.services.store.read

        def read_and_then_pause(name, look):
            found = read(name, look)
            if name == "survey" and not looks.append(name) and len(looks) == 3:
                world.services.store.run(
                    "pause", lambda s: setattr(s.get_one(Study, world.study_id), "state", "paused")
                )
            return found

        world.services.store.read = read_and_then_pause
        answer = site.ok("GET", f"{world.study}/task?cursor={cursor}&wait=25").json()
        assert answer["study_state"] == "paused"
        assert len(looks) in (4, 5)  # whoever hears of news looks once more if it waited its turn meanwhile

    def test_without_news_the_same_task_comes_at_the_end(self, world) -> None:
        world.begin()
        before = world.sites[0].task()
        answer = world.sites[0].ok("GET", f"{world.study}/task?cursor={before['cursor']}&wait=0.05").json()
        assert answer == before

    @pytest.mark.parametrize("wait", [-1, 26])
    def test_waits_have_bounds(self, world, refused, wait: int) -> None:
        world.begin()
        refused(world.sites[0].call("GET", f"{world.study}/task?wait={wait}"), 422, "request-invalid")
