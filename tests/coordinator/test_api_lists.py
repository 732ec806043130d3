"""Lists come in pages that neither repeat nor skip a row, and can be filtered."""

from __future__ import annotations

from typing import Any

import pytest

from crypto.canonical import sha256


def pages(world: Any, path: str) -> list[list[Any]]:
    """Every page, as the Link headers lead from one to the next."""
    found = []
    following: str | None = path
    while following is not None:
        answer = world.operate("GET", following)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        following = answer.links["next"]["url"] if "next" in answer.links else None
    return found


@pytest.fixture
def full(world: Any, make_model: Any) -> Any:
    """Something of everything that is listed."""
    world.begin(sites=3, name="first")
    for number in range(3):
        world.operate("POST", "/v1/models", content=make_model(metadata={"number": str(number)}))
        world.operate("POST", "/v1/studies", json={"name": f"100% {number}", "model": sha256(world.model)})
        world.invitation(note=f"note {number}")
        world.operate("POST", "/v1/operators", json={"name": f"person {number}"})
    for _ in range(3):
        world.clock.advance(3601)
        for site in world.sites:
            site.task()  # they are there, so that another attempt is planned
        world.conduct()
    return world


LISTS = ["/v1/studies", "/v1/sites", "/v1/models", "/v1/invitations", "/v1/operators", "/v1/audit"]


@pytest.mark.parametrize("path", [*LISTS, "rounds"])
def test_pages_make_up_the_whole(full, path: str) -> None:
    path = f"{full.study}/rounds" if path == "rounds" else path
    (whole,) = pages(full, path)
    assert len(whole) >= 3
    small = pages(full, f"{path}?limit=2")
    assert [len(page) for page in small[:-1]] == [2] * (len(small) - 1)
    assert [row for page in small for row in page] == whole
    exact = pages(full, f"{path}?limit={len(whole)}")
    assert exact == [whole], "no empty page at the end"


def test_rows_that_come_meanwhile_shift_nothing(full) -> None:
    first = full.operate("GET", "/v1/studies?limit=2")
    full.operate("POST", "/v1/studies", json={"name": "later", "model": sha256(full.model)})
    second = full.operate("GET", first.links["next"]["url"])
    names = [study["name"] for study in first.json() + second.json()]
    assert len(set(names)) == 4


def test_the_filters_go_along_to_the_next_page(full) -> None:
    answer = full.operate("GET", "/v1/audit?limit=1&action=operator.&actor=operator:anna&since=0")
    assert answer.headers["link"].endswith('; rel="next"')
    assert [row["action"] for page in pages(full, answer.links["next"]["url"]) for row in page] == [
        "operator.added"
    ] * 2


def names(answer: Any) -> list[str]:
    return [row["name"] for row in answer.json()]


def test_studies_by_state_and_name(full) -> None:
    assert names(full.operate("GET", "/v1/studies?state=running")) == ["first"]
    assert len(names(full.operate("GET", "/v1/studies?name=100%25"))) == 3
    assert names(full.operate("GET", "/v1/studies?name=FIRS")) == ["first"]
    assert names(full.operate("GET", "/v1/studies?name=1_0")) == [], "no wildcards"


def test_sites_by_state_and_name(full) -> None:
    assert names(full.operate("GET", "/v1/sites?name=al-b")) == ["hospital-b"]
    assert names(full.operate("GET", "/v1/sites?state=suspended")) == []


def test_rounds_by_state(full) -> None:
    states = [row["state"] for row in full.operate("GET", f"{full.study}/rounds?state=failed").json()]
    assert states == ["failed"] * 3


def test_models_of_a_study(full) -> None:
    rows = full.operate("GET", f"/v1/models?study={full.study_id}", full.auditor).json()
    assert [(row["model"], row["study"]) for row in rows] == [(sha256(full.model), None)]
    assert rows[0]["size"] == len(full.model)


def test_invitations_by_use(full) -> None:
    used = full.operate("GET", "/v1/invitations?used=true").json()
    assert len(used) == 3
    assert all(row["used_by"] for row in used)
    unused = full.operate("GET", "/v1/invitations?used=false").json()
    assert {row["note"] for row in unused} == {"note 0", "note 1", "note 2"}  # of one moment, so in the hashes' order


def test_the_log_by_action_actor_and_time(full) -> None:
    rows = full.operate("GET", "/v1/audit?action=round.failed").json()
    assert [row["action"] for row in rows] == ["round.failed"] * 3
    assert {row["actor"] for row in full.operate("GET", "/v1/audit?actor=conductor").json()} == {"conductor"}
    assert full.operate("GET", f"/v1/audit?action=round.failed&since={rows[1]['time']}").json() == rows[1:]
    assert full.operate("GET", "/v1/audit?action=round").json() == []


UNKNOWN = ["/v1/studies?after=0b5c9a52-3f51-4a53-9f55-5f0f7ad14c6e", "/v1/models?after=" + "ab" * 32]


@pytest.mark.parametrize("path", [*UNKNOWN, "/v1/studies?limit=0", "/v1/sites?limit=501", "/v1/audit?after=2147483648"])
def test_pages_that_cannot_be(full, refused, path: str) -> None:
    refused(full.operate("GET", path), 422, "request-invalid")


def test_who_may_list(full, refused) -> None:
    for path in ("/v1/models", "/v1/invitations", "/v1/operators", "/v1/audit", "/v1/sites"):
        refused(full.sites[0].call("GET", path), 403, "role-missing")
    for path in ("/v1/invitations", "/v1/operators"):
        refused(full.operate("GET", path, full.auditor), 403, "role-missing")
