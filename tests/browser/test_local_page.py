"""The agent's page in a real Chromium, served by a real process: a scan dropped, leafed through, compared."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

sys.path.insert(0, str(Path(__file__).parents[1] / "participant"))
sys.path.insert(0, str(Path(__file__).parent))

import agent_pages as visits
import lit_scans as lit
from local_page_pictures import look_at, serving

pytestmark = pytest.mark.browser
SLICES, SPOT = 20, (14, 34, 10)
NARROW = 360  # CSS pixels

DROP = """([target, name, content]) => {
  const bytes = Uint8Array.from(atob(content), each => each.charCodeAt(0)), given = new DataTransfer();
  given.items.add(new File([bytes], name));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: given });
    document.querySelector(target).dispatchEvent(event);
  }
}"""
#: Settles once every picture that is shown has come, and fails if one does not.
LOADED = "Promise.all([...document.querySelectorAll('.slice img:not([hidden])')].map(each => each.decode()))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local-page")


@pytest.fixture(scope="module")
def scan(folder: Path) -> Path:
    return lit.zipped(lit.write_series(folder / "series", lit.volume(SLICES, SPOT)), folder / "scan.zip")


@pytest.fixture(scope="module")
def models(folder: Path) -> list[Path]:
    return [
        visits.write_model(folder / f"{name}.safetensors", seed) for seed, name in enumerate(("federated", "alone"))
    ]


@pytest.fixture(scope="module")
def url(folder: Path, models: list[Path]) -> Iterator[str]:
    home = visits.agents_home(folder / "home")
    with serving(home.path, *(part for path in models for part in ("--model", str(path)))) as address:
        yield address


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """`open_page(url)`; the test fails if a script fails, something is refused, or anything else is asked for."""
    pages: list[Page] = []
    faults: list[str] = []

    def opened(url: str) -> Page:
        page = browser.new_page(base_url=url)
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Content Security" in said.text else None)
        page.on("request", lambda sent: None if sent.url.startswith((url, "data:")) else faults.append(sent.url))
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert faults == []


@pytest.fixture
def page(open_page: Callable[[str], Page], url: str) -> Page:
    return open_page(url)


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {[node['html'][:120] for node in each['nodes'][:3]]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def test_a_dropped_scan_is_looked_at_with_two_models(page: Page, scan: Path) -> None:
    page.goto("/diagnose")
    content = base64.b64encode(scan.read_bytes()).decode()
    page.evaluate(DROP, ["[data-drop]", "scan.zip", content])
    expect(page.get_by_text(re.compile(r"scan\.zip, 0\.\d MB"))).to_be_visible()
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.get_by_role("button", name="Look at it").click()
    expect(page.get_by_role("heading", name=f"CT, {SLICES} slices")).to_be_visible(timeout=120_000)
    for name in ("federated", "alone"):
        expect(page.get_by_role("heading", name=name)).to_be_visible()
        expect(page.get_by_role("img", name=f"Heat map of {name}")).to_be_visible()
    expect(page.get_by_text("Not a medical device").first).to_be_visible()
    page.evaluate(LOADED)

    sources = [image.get_attribute("src") for image in page.locator("[data-heat]").all()]
    assert len(set(sources)) == 2, "each model has its own map"
    page.get_by_label("Class that the heat map is of").select_option("healthy")
    assert all("/0/" in str(image.get_attribute("src")) for image in page.locator("[data-heat]").all())
    page.evaluate(LOADED)


def test_slices_are_leafed_through_by_keyboard(page: Page, scan: Path) -> None:
    look_at(page, scan, 1)
    slider = page.get_by_role("slider", name=re.compile("^Slice"))
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", f"slice 1 of {SLICES}")
    for _ in range(SLICES - 1 - SPOT[0]):
        page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", f"slice {SLICES - SPOT[0]} of {SLICES}")
    page.evaluate(LOADED)
    shown = page.locator("[data-slice]").first
    assert str(shown.get_attribute("src")).endswith(f"/slices/{SLICES - 1 - SPOT[0]}.png?preset=lung")
    brightest = """image => { const sheet = document.createElement("canvas"); [sheet.width, sheet.height] =
      [image.naturalWidth, image.naturalHeight]; const pen = sheet.getContext("2d"); pen.drawImage(image, 0, 0);
      return Math.max(...pen.getImageData(0, 0, sheet.width, sheet.height).data.filter((_, at) => at % 4 === 0)); }"""
    page.get_by_label("Bone").check()
    page.evaluate(LOADED)
    assert shown.evaluate(brightest) == 170, "the spot, of 700 HU, is on this slice"
    page.locator(".slice").first.hover()
    page.mouse.wheel(0, 100)
    expect(slider).to_have_attribute("aria-valuetext", f"slice {SLICES - SPOT[0] + 1} of {SLICES}")
    page.get_by_label(re.compile("^Heat map")).fill("20")
    assert page.locator("[data-heat]").evaluate("image => getComputedStyle(image).opacity") == "0.2"
    page.get_by_role("button", name="Brightest slice").click()
    assert 1 <= int(slider.input_value()) <= SLICES


def test_the_heat_map_is_saved_as_dicom_and_the_case_forgotten(page: Page, scan: Path) -> None:
    look_at(page, scan, 1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as DICOM").click()
    assert download.value.suggested_filename == "pleura-heat-map-research-use.zip"
    assert download.value.path().read_bytes()[:2] == b"PK"
    address = page.url
    page.get_by_role("button", name="Forget this one").click()
    expect(page.get_by_role("heading", name="See what the model sees")).to_be_visible()
    page.goto(address)
    expect(page.get_by_role("alert")).to_contain_text("results are kept in memory only")


def test_a_broken_file_is_explained_and_the_page_goes_on(page: Page, folder: Path, scan: Path) -> None:
    (folder / "broken.zip").write_bytes(scan.read_bytes()[:3000])
    page.goto("/diagnose")
    page.locator("#scan").set_input_files(folder / "broken.zip")
    page.get_by_role("button", name="Look at it").click()
    expect(page.get_by_role("alert")).to_contain_text("The zip cannot be read")
    page.get_by_role("link", name="Give another").click()
    look_at(page, scan, 1)


def test_no_serious_fault_in_either_theme_and_nothing_runs_out_of_a_phone(page: Page, scan: Path) -> None:
    look_at(page, scan, 2)
    faults = []
    for path in (page.url, "/", "/data", "/history", "/diagnose", "/cases/none"):
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(path)
        for theme in ("light", "dark"):
            page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
            faults += [f"{path} ({theme}): {fault}" for fault in serious(page)]
        page.set_viewport_size({"width": NARROW, "height": 700})
        if page.evaluate("document.documentElement.scrollWidth") > NARROW:
            faults.append(f"{path} is too wide")
    assert faults == []


def test_in_public_there_is_the_form_alone(
    open_page: Callable[[str], Page], folder: Path, models: list[Path], scan: Path
) -> None:
    with serving(folder / "nowhere", "--public", "--model", str(models[0])) as url:
        page = open_page(url)
        page.goto("/")
        expect(page.get_by_text("never stored")).to_be_visible()
        expect(page.get_by_role("navigation")).to_have_count(0)
        assert serious(page) == []
        assert page.goto("/history").status == 404
        with (folder / "large.zip").open("wb") as file:
            file.truncate(301 * 2**20)
        page.goto("/")
        page.locator("#scan").set_input_files(folder / "large.zip")
        expect(page.get_by_role("alert")).to_contain_text("more than the 300 MB")
        page.get_by_role("button", name="Look at it").click()
        expect(page.get_by_role("button", name="Look at it")).to_be_enabled()
        look_at(page, scan, 1)
        expect(page.get_by_role("button", name="Save as DICOM")).to_be_visible()
