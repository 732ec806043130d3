"""The report of check-data in a real Chromium: light and dark, wide and on a phone, by itself and embedded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).parents[1] / "participant"))

import checked_data as data

from participant.data.checks import Report, check
from participant.data.checks.html import render_fragment, render_page, stylesheet

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", params=["films", "scans"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of data with something to put right, warnings and notes."""
    root = tmp_path_factory.mktemp("cases")
    if request.param == "films":
        data.write_films(root, 15)
        for each in range(10):
            data.write_lettered(root / "normal" / f"stamped-{'long-' * 12}{each}.png", 60 + each, "JANE MILLER")
        (root / "normal" / "torn.png").write_bytes(b"torn")
        return check(root, data.FILMS)
    data.write_scans(root, 12)
    data.write_scan(root / "normal" / "short.nii.gz", 71, slices=30)
    return check(root, data.SCANS)


@pytest.fixture(params=[("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)], ids=str)
def page(browser: Browser, report: Report, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    """The report opened; the test fails if it asks for anything, or breaks its own policy."""
    scheme, width = request.param
    file = tmp_path / "report.html"
    file.write_text(render_page(report), "utf-8")
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("console", lambda message: faults.append(message.text))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert faults == []
    assert [each for each in asked if not each.startswith("data:")] == [file.as_uri()]


def test_it_fits_and_has_no_serious_fault(page: Page, report: Report) -> None:
    for details in page.locator("details").all():
        details.locator("summary").first.click()
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(page) == []
    assert page.get_by_role("heading", name="Training can").is_visible()
    assert page.locator(".finding").count() == len(report.findings)


def test_pictures_and_drawings_show(page: Page, report: Report) -> None:
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 100)")
    assert page.evaluate("document.images.length") >= 24
    for drawing in page.locator("svg.histogram").all():
        box = drawing.bounding_box()
        assert box is not None
        assert 250 < box["width"] <= 460
        line, frame = drawing.locator(".line").bounding_box(), drawing.locator(".axes").bounding_box()
        assert line is not None
        assert frame is not None
        assert line["width"] > 0.9 * frame["width"] - 40


def test_embedded_it_follows_the_page_s_theme_and_changes_nothing_else(browser: Browser, report: Report) -> None:
    page = browser.new_page(color_scheme="light")
    style = f":root {{ color-scheme: light dark }} [data-theme=dark] {{ color-scheme: dark }} {stylesheet()}"
    body = f"<main><h1>Data</h1><p id='own'>own</p>{render_fragment(report)}</main>"
    page.set_content(f"<html lang=en><head><title>Data</title><style>{style}</style></head><body>{body}</body></html>")
    shade = "getComputedStyle(document.querySelector('.data-report section')).backgroundColor"
    assert page.evaluate(shade) == "rgb(255, 255, 255)"
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert page.evaluate(shade) == "rgb(23, 31, 38)"
    assert page.evaluate("getComputedStyle(document.querySelector('#own')).maxWidth") == "none"
    page.close()


def serious(page: Page) -> list[str]:
    found: dict[str, Any] = Axe().run(page).response
    return [
        f"{each['id']}: {[node['html'][:160] for node in each['nodes'][:3]]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
