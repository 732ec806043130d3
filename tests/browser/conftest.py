"""A real coordinator with real agents of a tiny federation, and Chromium to look at it with."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "interop"))

import tiny_federation as tiny

from coordinator.store import operators
from coordinator.store.tables import Role

CHROMIUM = shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tiny.Server]:
    with tiny.serving(tmp_path / "coordinator") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ended with its module: as long as Playwright runs, nothing else in this thread can have an event loop."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: tiny.Server) -> Iterator[Page]:
    """A page of a fresh browser; the test fails if a script fails or anything that a page needs is refused."""
    page = browser.new_page(base_url=server.url)
    page.set_default_timeout(20_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
    yield page
    page.close()
    assert faults == []


@pytest.fixture
def token(server: tiny.Server) -> Callable[..., str]:
    """`token(name, role)` makes an operator."""

    def make(name: str, role: Role = "operator") -> str:
        now = server.services.clock.now()
        return server.services.store.run("add", lambda s: operators.add(s, name, role, "operator:test", now))

    return make


@pytest.fixture
def log_in(page: Page, token: Callable[..., str]) -> Callable[..., Page]:
    """`log_in(name, role)` is the page of somebody who has just logged in."""

    def log_in(name: str, role: Role = "operator") -> Page:
        page.goto("/")
        page.get_by_label("Operator's token").fill(token(name, role))
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_text(f"{name} ({role})")).to_be_visible()
        return page

    return log_in


@pytest.fixture
def first_model(tmp_path: Path) -> Path:
    """A file as `pleura-participant model new` writes it."""
    tiny.save_first_model(tmp_path / "first.safetensors")
    return tmp_path / "first.safetensors"


@pytest.fixture
def hospitals(server: tiny.Server, tmp_path: Path) -> Iterator[Callable[..., list[tiny.Hospital]]]:
    """`hospitals(3, hook=...)` enrols so many agents and starts them; they join every study."""
    made: list[tiny.Hospital] = []

    def start(number: int, **trainer: Any) -> list[tiny.Hospital]:
        for each in range(1, number + 1):
            made.append(tiny.make_hospital(tmp_path, server.url, server.invite(), each, **trainer))
            made[-1].start()
        return made

    yield start
    for hospital in made:
        hospital.stop()
