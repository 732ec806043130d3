"""Operators, auditors and invitations: made, renewed and ended over HTTP, by operators only."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.orm import Session

from coordinator.errors import Conflict, NotFound, RequestInvalid
from coordinator.store import invitations, operators
from coordinator.store.tables import Audit

DAY = 86_400


@pytest.fixture
def call(world):
    return lambda token: world.operate("GET", "/v1/sites", token)


def added(world, **wish: Any) -> str:
    answer = world.operate("POST", "/v1/operators", json=wish)
    assert answer.status_code == 201, answer.text
    return answer.json()["token"]


@pytest.mark.parametrize(("wish", "days"), [({"days": 2}, 2), ({}, 365)], ids=str)
def test_a_token_has_its_days(world, call, refused, wish: dict[str, int], days: int) -> None:
    token = added(world, name="bo", role="auditor", **wish)
    world.clock.advance(days * DAY - 1)
    assert call(token).status_code == 200
    world.clock.advance(1)
    refused(call(token), 401, "token-invalid")
    (bo,) = [row for row in world.operate("GET", "/v1/operators").json() if row["name"] == "bo"]
    assert (bo["role"], bo["standing"], bo["expires"]) == ("auditor", "expired", world.clock.now())


def test_a_new_token_ends_the_former_one(world, call, refused) -> None:
    answer = world.operate("POST", "/v1/operators/zoe/renewals", json={"days": 1})
    assert answer.status_code == 201
    token = answer.json()["token"]
    refused(call(world.auditor), 401, "token-invalid")
    assert call(token).status_code == 200
    refused(world.operate("GET", "/v1/operators", token), 403, "role-missing")  # still an auditor
    world.clock.advance(DAY)
    refused(call(token), 401, "token-invalid")


def test_a_revoked_name_may_be_given_again(world, call, refused) -> None:
    refused(world.operate("POST", "/v1/operators", json={"name": "zoe"}), 409, "name-taken")
    assert world.operate("DELETE", "/v1/operators/zoe").status_code == 204
    refused(call(world.auditor), 401, "token-invalid")
    refused(world.operate("POST", "/v1/operators/zoe/renewals", json={}), 404, "not-found")
    assert world.operate("DELETE", "/v1/operators/zoe").status_code == 204, "again is harmless"
    assert call(added(world, name="zoe")).status_code == 200
    refused(call(world.auditor), 401, "token-invalid")
    rows = world.services.store.read("audit", lambda s: s.query(Audit).order_by(Audit.seq).all())
    assert [row.action for row in rows][-2:] == ["operator.revoked", "operator.added"]


@pytest.mark.parametrize(
    ("method", "path", "wish"),
    [
        ("GET", "", {}),
        ("POST", "", {"json": {"name": "bo"}}),
        ("POST", "/anna/renewals", {"json": {}}),
        ("DELETE", "/anna", {}),
    ],
)
def test_an_operators_role_is_needed(world, refused, method: str, path: str, wish: dict[str, Any]) -> None:
    site = world.new_site("hospital-x")
    refused(world.operate(method, f"/v1/operators{path}", world.auditor, **wish), 403, "role-missing")
    refused(site.call(method, f"/v1/operators{path}", **wish), 403, "role-missing")


@pytest.mark.parametrize("name", ["", " bo", "bo/../anna", "anna (on the server)", "bo\n", "x" * 81])
def test_names_that_cannot_be(world, refused, name: str) -> None:
    refused(world.operate("POST", "/v1/operators", json={"name": name}), 422, "request-invalid")

    def add(session: Session) -> None:
        operators.add(session, name, "operator", "operator:test", 0.0)

    with pytest.raises(RequestInvalid, match="cannot be an operator's name"):
        world.services.store.run("add", add)


def test_who_was_never_there(world, refused) -> None:
    refused(world.operate("DELETE", "/v1/operators/eve"), 404, "not-found")
    refused(world.operate("POST", "/v1/operators/eve/renewals", json={}), 404, "not-found")


class TestInvitations:
    @pytest.fixture
    def listed(self, world):
        return lambda: world.services.store.read("invitations", invitations.everyone)

    @pytest.fixture
    def withdraw(self, world):
        now = world.clock.now()
        return lambda identifier: world.services.store.run(
            "withdraw", lambda s: invitations.withdraw(s, identifier, "operator:test", now)
        )

    def test_one_that_nobody_used_can_be_withdrawn(self, world, listed, withdraw, refused) -> None:
        invitation = world.invitation(note="ward 3")
        (row,) = listed()
        assert (row.note, row.used_by) == ("ward 3", None)
        withdraw(row.hash)
        enrolment = world.stranger("hospital-x").enrolment(invitation)
        refused(world.call("POST", "/v1/enrolments", json=enrolment), 403, "invitation-invalid")
        assert listed() == []
        with pytest.raises(NotFound, match="withdrawn already"):
            withdraw(row.hash)

    def test_a_used_one_cannot(self, world, listed, withdraw) -> None:
        world.new_site("hospital-x")
        (row,) = listed()
        with pytest.raises(Conflict, match="suspend it"):
            withdraw(row.hash)

    def test_the_newest_stands_first(self, world, listed) -> None:
        for note in ("former", "later"):
            world.clock.advance(1)
            world.invitation(note=note)
        assert [row.note for row in listed()] == ["later", "former"]
