"""The operator's page: who sees it, what it shows, that it changes nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from coordinator.store import operators
from coordinator.web.curves import curve


class Cookies:
    """A browser that keeps the one cookie."""

    def __init__(self, world) -> None:
        self.world, self.cookie = world, None

    def call(self, method: str, path: str, **arguments):
        headers = {"Cookie": self.cookie} if self.cookie else {}
        answer = self.world.call(method, path, headers=headers, **arguments)
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].split(";")[0]
        return answer

    def login(self, token: str):
        return self.call("POST", "/login", data={"token": token})


@pytest.fixture
def browser(world) -> Cookies:
    return Cookies(world)


def test_without_a_login_there_is_nothing_to_see(world, browser) -> None:
    world.begin()
    page = browser.call("GET", "/").text
    assert "Operator's token" in page or "Operator&#39;s token" in page
    assert "hospital-a" not in page


def test_login_and_logout(world, browser) -> None:
    answer = browser.login(world.auditor)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert world.auditor not in cookie
    assert "zoe (auditor)" in browser.call("GET", "/").text
    session = browser.cookie
    browser.call("POST", "/logout")
    browser.cookie = session
    assert "zoe" not in browser.call("GET", "/").text, "the session is over, not just the cookie gone"


def test_a_wrong_token(world, browser) -> None:
    answer = browser.login("pleura-operator-guess")
    assert answer.status_code == 401
    assert "Nobody here was given this token" in answer.text
    assert "set-cookie" not in answer.headers


def test_guessing_is_slowed_down(new_world) -> None:
    world = new_world(logins_per_minute=2)
    browser = Cookies(world)
    assert [browser.login("guess").status_code for _ in range(3)] == [401, 401, 429]
    world.clock.advance(31)
    assert browser.login(world.operator).status_code == 303


def test_sessions_end(world, browser) -> None:
    browser.login(world.operator)
    world.clock.advance(12 * 3600)
    assert "anna" not in browser.call("GET", "/").text


def test_who_is_revoked_is_out(world, browser) -> None:
    browser.login(world.operator)
    now = world.clock.now()
    world.services.store.run("revoke", lambda s: operators.revoke(s, "anna", "operator:test", now))
    assert "anna" not in browser.call("GET", "/").text


def test_cookies_over_tls_only_when_asked(new_world) -> None:
    world = new_world(secure_cookies=True)
    assert "Secure" in Cookies(world).login(world.operator).headers["set-cookie"]


def test_what_it_shows(world, browser) -> None:
    world.begin()
    for site in world.sites:
        site.contribute()
    world.conduct()
    browser.login(world.auditor)
    page = browser.call("GET", "/").text
    for expected in ("hospital-a", "round 0 of 2", "opening", "contribution.complete", "3 members"):
        assert expected in page
    (received,) = {entry["bytes_received"] for entry in world.operate("GET", f"{world.study}/rounds").json()}
    assert f"{received / 1e6:,.1f} MB" in page


def test_names_are_escaped(world, browser) -> None:
    world.create_study(name="<script>alert(1)</script>")
    browser.login(world.auditor)
    page = browser.call("GET", "/").text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_it_works_without_network_or_script(world, browser) -> None:
    world.begin()
    browser.login(world.auditor)
    own = f"/studies/{world.study_id}"
    answers = [browser.call("GET", path) for path in ("/", own)]
    addresses = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attrs) -> None:
            assert tag != "script"
            addresses.extend(value for name, value in attrs if name in ("src", "href", "action"))

    for answer in answers:
        Links().feed(answer.text)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert set(addresses) == {"/static/pleura.css", "/static/pleura.svg", "/logout", "/", own}
    style = browser.call("GET", "/static/pleura.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "http" not in style.text
    assert "prefers-color-scheme: dark" in style.text


def test_curves() -> None:
    drawn = str(curve([None, 0.5, 1.0], "AUC <x>", top=1.0))
    assert "AUC &lt;x&gt;" in drawn
    points = re.search(r'points="([^"]*)"', drawn)[1].split()
    assert points == ["130,36", "254,6"]
    assert "polygon" not in drawn
    assert str(curve([None], "AUC")) == ""
    assert "polyline" in str(curve([0.0], "loss"))


def test_a_curves_band_joins_the_intervals_there_are() -> None:
    drawn = str(curve([0.5, 0.5, 1.0], "AUC", top=1.0, ends=[None, [0.0, 1.0], [0.5, 1.0]]))
    band = re.search(r'<polygon points="([^"]*)"', drawn)[1].split()
    assert band == ["130,6", "254,6", "254,36", "130,66"]
    assert drawn.index("<polygon") < drawn.index("<polyline")
