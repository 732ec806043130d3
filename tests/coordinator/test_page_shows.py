"""What the pages show, and that it comes from here and runs nothing of anybody else's."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from page_visits import Browser
from sqlalchemy import text

from coordinator.store import audit


@pytest.fixture
def browser(world) -> Browser:
    browser = Browser(world)
    browser.login(world.auditor)
    return browser


def half_way(world) -> None:
    """A round whose ballot is shown."""
    world.begin()
    for site in world.sites:
        site.contribute()
    world.conduct()


def completed(world) -> str:
    """A completed round's model."""
    half_way(world)
    for site in world.sites:
        assert site.vote().status_code == 204
    world.conduct()
    (opener,) = world.sites[0].task()["openers"]
    site = world.site(opener)
    assert site.send(f"{world.attempt}/opening", site.opening()).is_success
    world.conduct()
    return world.operate("GET", f"{world.study}/rounds").json()[0]["model"]


def everywhere(world) -> list[str]:
    study, model = f"/studies/{world.study_id}", world.operate("GET", world.study).json()["first_model"]
    found = [
        "/",
        study,
        f"{study}/stop",
        "/sites",
        "/models",
        f"/models/{model}",
        "/audit",
        "/audit/verify",
        "/settings",
    ]
    return [*found, *([f"{study}/rounds/1/1"] if world.operate("GET", f"{world.study}/rounds").json() else [])]


def test_a_round_under_way(world, browser) -> None:
    half_way(world)
    page = browser.look(f"/studies/{world.study_id}")
    assert "Round 1: 0 of 3 members have voted for the ballot" in page
    for expected in ("hospital-a", "Collect: done", "Add up: done", "Open: under way"):
        assert expected in page
    (received,) = {entry["bytes_received"] for entry in world.operate("GET", f"{world.study}/rounds").json()}
    assert f"{received / 1e3:,.1f} kB" in page or f"{received / 1e6:,.1f} MB" in page
    world.sites[0].vote()
    assert "1 of 3 members have voted" in browser.look(f"/studies/{world.study_id}")


def test_a_completed_round_its_model_and_the_file(world, browser) -> None:
    model = completed(world)
    page = browser.look(f"/studies/{world.study_id}/rounds/1/1")
    for expected in ("Open: done", "Values cut off at the bounds", f"/models/{model}"):
        assert expected in page
    card = browser.look(f"/models/{model}")
    for expected in ("study, after round 1", model, "hospital-a, hospital-b, hospital-c", "no medical device"):
        assert expected in card
    assert "Not measured yet" in card
    first = world.operate("GET", world.study).json()["first_model"]
    assert "Measured in round" in browser.look(f"/models/{first}")
    file = browser.call("GET", f"/models/{first}/file")
    assert file.content == world.model
    assert file.headers["content-disposition"] == f'attachment; filename="{first[:12]}.safetensors"'
    assert browser.call("GET", f"/models/{'ab' * 32}").status_code == 404


def test_a_study_that_waits_says_for_what(world, browser) -> None:
    world.create_study()
    assert "Waiting for an operator to start it." in browser.look("/")
    world.operate("POST", f"{world.study}/start")
    assert "No round yet: " in browser.look("/")
    world.operate("POST", f"{world.study}/pause")
    assert "Waiting for an operator to resume it." in browser.look("/")


def test_sites_have_words_to_compare(world, browser) -> None:
    world.begin()
    page = browser.look("/sites")
    for site in world.sites:
        for word in site.identity.public.words.split("-"):
            assert f"<span>{word}</span>" in page
        assert site.identity.public.fingerprint in page
    assert "silent" not in page
    world.clock.advance(1000)
    assert "16 min ago" in browser.look("/sites")
    assert "silent" in browser.look("/sites")


def test_the_log_is_searched_by_who_what_text_and_day(world, browser) -> None:
    world.begin()
    now = world.clock.now()
    world.services.store.run(
        "note", lambda s: audit.append(s, now, "operator:anna", "study.note", {"words": "Universität 100% <b>"})
    )

    def actions(query: str) -> list[str]:
        return re.findall(r'<td class="plain">([a-z.-]+)</td>', browser.look(f"/audit?{query}"))

    assert set(actions("actor=operator:anna")) == {
        "invitation.made",
        "model.uploaded",
        "study.created",
        "study.start",
        "study.note",
    }
    assert set(actions(f"actor=site:{world.sites[0].id}")) <= {
        "site.enrolled",
        "study.joined",
        "peers.approved",
        "epoch.dealt",
    }
    assert set(actions("action=round.")) == {"round.planned"}
    assert actions("text=universit%C3%A4t+100%25+%3Cb") == ["study.note"]
    assert actions("text=100x") == []
    assert len(actions("since=2023-11-14&until=2023-11-14")) > 5, "the clock stands on that day"
    assert actions("until=2023-11-13") == []
    assert browser.call("GET", "/audit?since=2023-99-99").status_code == 422
    assert "&lt;b&gt;" in browser.look("/audit?action=study.note")


def test_the_log_comes_in_pages(world, browser) -> None:
    now = world.clock.now()

    def fill(session) -> None:
        for number in range(120):
            audit.append(session, now, "operator:test", "round.told", {"number": number})

    world.services.store.run("fill", fill)
    path, seen = "/audit?action=round.told", []
    while path:
        page = browser.look(path)
        seen += [int(number) for number in re.findall(r"<b>number</b> (\d+)", page)]
        older = re.search(r'href="([^"]+)">Older rows', page)
        path = older[1].replace("&amp;", "&") if older else None
    assert seen == list(range(119, -1, -1))


def test_the_chain_is_verified(world, browser) -> None:
    world.begin()
    newest = world.services.store.read("newest", lambda s: audit.rows_after(s, 0))[-1]
    page = browser.look("/audit/verify")
    assert "The chain holds" in page
    assert newest.hash in page
    change = text("UPDATE audit SET detail = :detail WHERE seq = 3")
    world.services.store.run("change", lambda s: s.execute(change, {"detail": json.dumps({"x": 1})}))
    assert "broken at row 3" in browser.look("/audit/verify")


def test_names_are_escaped(world, browser) -> None:
    world.create_study(name="<script>alert(1)</script>")
    world.new_site("<img src=x>")
    for path in everywhere(world):
        page = browser.look(path)
        assert "<script>" not in page
        assert "<img" not in page
    assert "&lt;script&gt;" in browser.look("/")


def test_everything_comes_from_here_and_the_browser_is_told_so(world, browser) -> None:
    completed(world)
    found: set[tuple[str, str]] = set()

    class Sources(HTMLParser):
        def handle_starttag(self, tag, attrs) -> None:
            names = dict(attrs)
            assert not any(name.startswith("on") or name == "style" for name in names), (tag, attrs)
            found.update((tag, names[name]) for name in ("src", "href", "action") if name in names)

    for path in everywhere(world):
        answer = browser.call("GET", path)
        Sources().feed(answer.text)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
    assert {where for tag, where in found if tag in ("link", "script")} == {
        "/static/pleura.css",
        "/static/pleura.svg",
        "/static/pleura.js",
    }
    assert all(where.startswith(("/", "#")) and not where.startswith("//") for _, where in found)
    for name in ("css", "js"):
        file = browser.call("GET", f"/static/pleura.{name}")
        assert "http:" not in file.text
        assert "https:" not in file.text
        assert file.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/v1/status", "/healthz", "/static/pleura.css", "/nowhere"])
def test_every_answer_has_the_headers(world, path: str) -> None:
    headers = world.call("GET", path).headers
    for name in ("content-security-policy", "x-content-type-options", "referrer-policy", "cross-origin-opener-policy"):
        assert name in headers


def test_the_colours_that_somebody_chose(world, browser) -> None:
    assert "data-theme=" not in browser.look("/").split("<head>")[0]
    for theme, expected in (("dark", '<html lang="en" data-theme="dark">'), ('"><b>', '<html lang="en">')):
        page = browser.call("GET", "/", headers={"Cookie": f"{browser.cookie}; pleura-theme={theme}"}).text
        assert expected in page
