"""An experiment's report in a real Chromium: light and dark, on a wide screen and on a phone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).parents[1] / "simulation"))

import experiment_values as values

from simulation.experiments.report.build import report_of
from simulation.experiments.report.write import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    report = report_of(values.experiment(), values.units(), [("seeds", "1, 2, 3")], {"films": values.SHEET})
    return write_report(report, tmp_path_factory.mktemp("report")).as_uri()


@pytest.fixture(params=[("light", 1280), ("dark", 1280), ("light", 400), ("dark", 400)], ids=str)
def page(browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    scheme, width = request.param
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(url)
    yield page
    context.close()
    assert faults == []
    assert [each for each in asked if not each.startswith("data:")] == [url]


def test_it_fits_and_can_be_read(page: Page) -> None:
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    for drawing in page.locator(".drawing svg").all():
        box = drawing.bounding_box()
        assert box is not None
        assert 100 < box["width"] <= width
    assert page.get_by_role("heading", name="Made-up experiment").is_visible()
    assert page.get_by_role("img").count() == page.locator("figure").count()


def test_its_sections_are_a_click_away(page: Page) -> None:
    page.get_by_role("link", name="Confusion matrices and accuracy by class").click()
    assert page.evaluate("document.querySelector(location.hash).querySelector('h2').textContent") == (
        "Confusion matrices and accuracy by class"
    )


#: Text whose contrast to what lies behind it is below WCAG's 4.5 to 1, with the contrast.
CONTRAST = """() => {
  const parts = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = parts(c).slice(0, 3).map(v => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { while (e) { const c = getComputedStyle(e).backgroundColor; if (parts(c)[3] !== 0) return c;
    e = e.parentElement; } return 'rgb(255, 255, 255)'; };
  const poor = [];
  for (const e of document.querySelectorAll('h1, h2, h3, p, td, th, dt, dd, figcaption, small, a')) {
    if (!e.textContent.trim()) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) poor.push(`${e.tagName} ${e.textContent.slice(0, 30)} ${contrast.toFixed(2)}`);
  }
  return poor;
}"""
