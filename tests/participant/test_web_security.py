"""Who may ask the page: this machine's own browser, by a name of this machine, from this page's forms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import agent_pages as visits
import httpx
import pytest

from participant.diagnosis.limits import Limits
from participant.web.settings import Page


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return visits.two_models(tmp_path)


@pytest.mark.parametrize(
    "host", ["attacker.example", "localhost.attacker.example", "10.0.0.1", "", "[::1", "a@localhost.x"]
)
def test_another_name_is_not_answered(page: Page, host: str) -> None:
    with visits.client_of(page) as client:
        answer = client.get("/", headers={"Host": host})
        assert answer.status_code == 421
        assert "St. Mary" not in answer.text
        for own in ("localhost", "localhost:8321", "127.0.0.1:9", "[::1]:8321", "LOCALHOST"):
            assert client.get("/", headers={"Host": own}).status_code == 200


@pytest.mark.parametrize("origin", ["https://attacker.example", "null", "http://localhost:9999", None])
def test_forms_of_other_pages_are_not_taken(page: Page, origin: str | None) -> None:
    with visits.client_of(page) as client:
        del client.headers["Origin"]
        headers = {"Origin": origin} if origin else {}
        for path in ("/diagnose", "/cases/x/forget", "/cases/x/pacs", "/login"):
            assert client.post(path, headers=headers).status_code == 403


def test_every_answer_tells_the_browser_what_it_may_do(page: Page) -> None:
    with visits.client_of(page) as client:
        for path in ("/", "/data", "/history", "/diagnose", "/static/page.js", "/cases/none", "/nowhere"):
            headers = client.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
        assert client.get("/nowhere").status_code == 404


def test_pages_load_nothing_from_elsewhere(page: Page) -> None:
    with visits.client_of(page) as client:
        for path in ("/", "/data", "/history", "/diagnose", "/static/page.js", "/static/page.css"):
            text = (
                client.get(path)
                .text.replace("http://www.w3.org/2000/svg", "")
                .replace("https://pleura.example.org", "")
            )
            assert "http" not in text.replace('http-equiv="refresh"', "")
            assert "style=" not in text, "no inline styles: the policy forbids them"


def test_more_than_the_limit_is_refused_before_it_is_kept(page: Page) -> None:
    page.limits = Limits(upload=10_000)
    with visits.client_of(page) as client:
        data = {"model": page.files()[0].digest}
        answer = client.post("/diagnose", data=data, files=[("scan", ("scan.zip", b"x" * 20_000))])
        assert answer.status_code == 413
        assert "the most that can be given at once" in answer.text
        assert client.get("/diagnose").status_code == 200


# --- where other machines can reach it


@contextmanager
def reached(tmp_path: Path) -> Iterator[httpx.Client]:
    page = Page(visits.agents_home(tmp_path / "home"), [], token="correct-horse", device="cpu")
    with visits.client_of(page, "https://pleura.example", frozenset({"pleura.example"})) as client:
        yield client


def test_without_the_token_there_is_only_the_login(tmp_path: Path) -> None:
    with reached(tmp_path) as client:
        for path in ("/", "/data", "/history", "/diagnose", "/cases/x", "/cases/x/slices/0.png", "/data-report.css"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert client.post("/diagnose").status_code == 303
        assert "St. Mary" not in client.get("/login").text
        wrong = client.post("/login", data={"token": "battery-staple"})
        assert wrong.status_code == 403
        assert "not this page" in wrong.text
        assert client.get("/").status_code == 303


def test_with_the_token_all_is_open_to_this_browser(tmp_path: Path) -> None:
    with reached(tmp_path) as client:
        answer = client.post("/login", data={"token": " correct-horse\n"})
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Secure" in cookie
        assert "correct-horse" not in cookie
        assert "St. Mary" in client.get("/").text
        assert "correct-horse" not in client.get("/").text


def test_tokens_cannot_be_guessed_at_leisure(tmp_path: Path) -> None:
    with reached(tmp_path) as client:
        tries: list[httpx.Response] = [client.post("/login", data={"token": str(number)}) for number in range(12)]
        assert [answer.status_code for answer in tries] == [403] * 10 + [429] * 2
        assert client.post("/login", data={"token": "correct-horse"}).status_code == 429
