"""axe-core finds no serious fault on any page, in either theme; nothing runs out of a narrow screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_federation as tiny
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

pytestmark = pytest.mark.browser
SERIOUS = ("serious", "critical")
NARROW = 360  # CSS pixels


@pytest.fixture
def addresses(
    server: tiny.Server, first_model: Path, hospitals: Callable[..., list[tiny.Hospital]], token: Callable[..., str]
) -> list[str]:
    """Every page, of a coordinator on which something happened."""
    study = server.create_study(first_model, name="lungs", rounds=2)["id"]
    hospitals(3)
    tiny.wait_until(lambda: server.study(study)["state"] == "finished", "the study to finish")
    server.http.post("/v1/studies", json={"name": "draft", "model": server.study(study)["first_model"]})
    token("zoe", "auditor")
    site = server.http.get("/v1/sites").json()[0]["id"]
    own = f"/studies/{study}"
    general = ["/", "/sites", "/models", "/audit", "/audit/verify", "/settings", "/studies/new"]
    model = f"/models/{server.study(study)['first_model']}"
    return [*general, own, f"{own}/rounds/1/1", f"{own}/stop", model, f"/sites/{site}/suspend"]


def serious(page: Page) -> list[str]:
    found: dict[str, Any] = Axe().run(page).response
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:160] for node in each['nodes'][:3]]}"
        for each in found["violations"]
        if each["impact"] in SERIOUS
    ]


def test_no_serious_fault_in_either_theme(log_in: Callable[..., Page], addresses: list[str]) -> None:
    page = log_in("anna")
    faults: list[str] = []
    for path in ["/login", *addresses]:
        page.goto(path)
        for theme in ("light", "dark"):
            page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
            faults += [f"{path} ({theme}): {fault}" for fault in serious(page)]
    assert faults == []


def test_axe_would_find_one(log_in: Callable[..., Page]) -> None:
    page = log_in("anna")
    page.evaluate("document.querySelector('main').innerHTML = '<input type=\"text\">'")
    assert any(fault.startswith("label") for fault in serious(page))


def test_nothing_runs_out_of_a_narrow_screen(log_in: Callable[..., Page], addresses: list[str]) -> None:
    page = log_in("anna")
    page.set_viewport_size({"width": NARROW, "height": 700})
    wide = {}
    for path in addresses:
        page.goto(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > NARROW:
            wide[path] = width
    assert wide == {}
