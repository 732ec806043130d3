"""An evaluation's report in a real Chromium: light and dark, on a wide screen and on a phone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).parents[1] / "participant"))

import judged

from participant.evaluation.readers import Readers
from participant.evaluation.report import write_report
from participant.evaluation.result import evaluated

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    classes = ("healthy", "covid-19", "other-viral", "a-class-whose-name-is-rather-long")
    calls = {reader: {case: (case + n % 2) % 4 for case in range(90)} for n, reader in enumerate("ABCD")}
    found = evaluated(judged.SUBJECT, judged.predictions(100, classes), Readers(calls=calls), resamples=200, draws=50)
    return write_report(found, tmp_path_factory.mktemp("report")).as_uri()


@pytest.fixture(params=[("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)], ids=str)
def page(browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The report opened; the test fails if it asks for anything, or breaks its own policy."""
    scheme, width = request.param
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("console", lambda message: faults.append(message.text))
    page.goto(url)
    yield page
    context.close()
    assert faults == []
    assert asked == [url]


def test_it_fits_and_has_no_fault(page: Page) -> None:
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [f"{each['id']}: {each['nodes'][0]['html'][:120]}" for each in Axe().run(page).response["violations"]] == []
    assert page.get_by_role("img").count() == page.locator("figure").count() == 8


def test_drawings_show(page: Page) -> None:
    for drawing in page.locator("svg.roc, svg.reliability").all():
        box = drawing.bounding_box()
        assert box is not None
        assert 230 < box["width"] <= 380
    curve, frame = (page.locator(f"svg.roc {part}").first.bounding_box() for part in (".line", ".chance"))
    assert curve is not None
    assert frame is not None
    assert curve["width"] == pytest.approx(frame["width"], abs=4), "from one end to the other"
    shades = page.locator(".confusion td").evaluate_all("all => all.map(td => getComputedStyle(td).backgroundColor)")
    assert len(set(shades)) > 4, "shaded by their share"
