"""Word of changes: told to who is logged in, as long as that lasts and the process does."""

from __future__ import annotations

import pytest
from page_visits import Browser

from coordinator.store import audit, audit_search
from coordinator.web.pages.events import changes


def note(world, action: str) -> int:
    now = world.clock.now()
    return world.services.store.run("note", lambda s: audit.append(s, now, "operator:test", action, {})).seq


@pytest.fixture
def login(world) -> str:
    browser = Browser(world)
    browser.login(world.operator)
    return browser.cookie.partition("=")[2]


@pytest.fixture
def following(world, portal, login):
    """`following(seen)` is a function that gives the next event, None after the last one."""

    def follow(seen: int):
        events = changes(world.services, login, seen)

        async def following() -> bytes | None:
            return await anext(events, None)

        assert portal.call(following).startswith(b"retry:")
        return lambda: portal.call(following)

    return follow


def newest(world) -> int:
    return world.services.store.read("newest", audit_search.newest)


def test_each_change_is_told_once(world, following) -> None:
    tell = following(newest(world))
    seq = note(world, "study.start")
    assert tell() == b"id: %d\nevent: changed\ndata: %d\n\n" % (seq, seq)
    note(world, "study.pause")
    seq = note(world, "study.resume")
    assert b"data: %d\n" % seq in tell(), "two at once are one"


def test_what_happened_before_the_connection_is_told_at_once(world, following) -> None:
    seen = newest(world)
    seq = note(world, "study.start")
    assert b"data: %d\n" % seq in following(seen)()


def test_it_ends_with_the_login(world, following) -> None:
    tell = following(newest(world))
    world.clock.advance(13 * 3600)
    assert tell() == b"event: over\ndata: \n\n"
    assert tell() is None


def test_it_ends_with_the_process(world, following) -> None:
    tell = following(newest(world))
    world.services.stopping.set()
    assert tell() is None


def test_over_http_and_after_a_broken_line(world) -> None:
    browser = Browser(world)
    browser.login(world.auditor)
    seen = newest(world)
    note(world, "study.start")
    world.services.stopping.set()
    answer = browser.call("GET", f"/events?after={seen}")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text == "retry: 2000\n\n"
    assert browser.call("GET", "/events?after=-1").status_code == 422
    assert browser.call("GET", "/events", headers={"Last-Event-ID": "many"}).status_code == 200
