"""Logins to the pages: who gets in, how long, and that several coordinators share them."""

from __future__ import annotations

import pytest
from page_visits import Browser
from sqlalchemy import select

from coordinator.app import create_app
from coordinator.store import logins, operators
from coordinator.store.tables import Audit, Login


@pytest.fixture
def browser(world) -> Browser:
    return Browser(world)


def revoke(world, name: str) -> None:
    now = world.clock.now()
    world.services.store.run("revoke", lambda s: operators.revoke(s, name, "operator:test", now))


@pytest.mark.parametrize("path", ["/", "/sites", "/models", "/audit", "/audit/verify", "/settings", "/studies/new"])
def test_without_a_login_every_page_leads_to_it(world, browser, path: str) -> None:
    world.begin()
    answer = browser.call("GET", path)
    assert answer.status_code == 303
    assert answer.headers["location"] == ("/login" if path == "/" else f"/login?next={path}")
    assert "hospital-a" not in answer.text
    assert "Operator" in browser.look("/login")


def test_nor_are_there_events(browser) -> None:
    assert browser.call("GET", "/events").status_code == 401


def test_login_and_logout(world, browser) -> None:
    answer = browser.login(world.auditor, next="/sites")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sites")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert world.auditor not in cookie
    assert ">zoe<" in browser.look("/")
    login = browser.cookie
    assert browser.call("POST", "/logout").status_code == 303
    browser.cookie = login
    assert browser.call("GET", "/").status_code == 303, "the login is over, not just the cookie gone"


@pytest.mark.parametrize("wanted", ["//elsewhere.example", "https://elsewhere.example", "/\\elsewhere.example"])
def test_a_login_leads_nowhere_else(world, browser, wanted: str) -> None:
    assert browser.login(world.operator, next=wanted).headers["location"] == "/"


def test_a_wrong_token(browser) -> None:
    answer = browser.login("pleura-operator-guess")
    assert answer.status_code == 401
    assert "Nobody here was given this token" in answer.text
    assert "set-cookie" not in answer.headers


def test_guessing_is_slowed_down(new_world) -> None:
    world = new_world(logins_per_minute=2)
    browser = Browser(world)
    assert [browser.login("guess").status_code for _ in range(3)] == [401, 401, 429]
    world.clock.advance(31)
    assert browser.login(world.operator).status_code == 303


def test_logins_end(world, browser) -> None:
    browser.login(world.operator)
    world.clock.advance(12 * 3600 - 1)
    browser.look("/")
    world.clock.advance(1)
    assert browser.call("GET", "/").status_code == 303


def test_who_is_revoked_is_out_also_when_the_name_is_given_again(world, browser) -> None:
    browser.login(world.operator)
    revoke(world, "anna")
    assert browser.call("GET", "/").status_code == 303
    world.operator_token("anna", "operator")
    assert browser.call("GET", "/").status_code == 303


def test_another_coordinator_on_the_database_knows_the_login(world, browser) -> None:
    browser.login(world.operator)
    world.app = create_app(world.services)
    world._client._transport.app = world.app
    assert ">anna<" in browser.look("/")


def test_the_database_has_no_id_and_forgets_what_is_over(world, browser) -> None:
    browser.login(world.operator)
    identifier = browser.cookie.partition("=")[2]
    rows = world.services.store.read("logins", lambda s: s.scalars(select(Login)).all())
    assert len(rows) == 1
    assert identifier not in {rows[0].hash, rows[0].token_hash}
    world.clock.advance(13 * 3600)
    Browser(world).login(world.auditor)
    rows = world.services.store.read("logins", lambda s: s.scalars(select(Login)).all())
    assert len(rows) == 1
    found = world.services.store.read("find", lambda s: logins.find(s, identifier, world.clock.now()))
    assert found is None


def test_the_log_tells_of_it_without_the_token(world, browser) -> None:
    browser.login(world.operator)
    rows = world.services.store.read("audit", lambda s: s.scalars(select(Audit).order_by(Audit.seq)).all())
    assert (rows[-1].actor, rows[-1].action) == ("operator:anna", "operator.logged-in")
    assert world.operator not in str(rows[-1].detail)


def test_cookies_and_transport_over_tls_only_when_asked(new_world) -> None:
    answer = Browser(new_world(secure_cookies=True)).login("guess")
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    world = new_world(secure_cookies=True)
    assert "Secure" in Browser(world).login(world.operator).headers["set-cookie"]
    assert "strict-transport-security" not in new_world().call("GET", "/login").headers
