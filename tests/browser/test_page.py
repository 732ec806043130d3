"""The operator's page in a real Chromium, served by a real coordinator process."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from coordinator.metrics import roc_curves
from coordinator.web.curves import curve as plot
from coordinator.web.roc import roc_plot

CHROMIUM = shutil.which("chromium")
BIN = Path(sys.executable).parent

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]


def coordinator(data: Path, *arguments: str) -> str:
    command = [str(BIN / "pleura-coordinator"), *arguments, "--data-dir", str(data)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=data.parent).stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page") / "data"


@pytest.fixture(scope="module")
def url(data: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (data.parent / "log").open("wb")
    command = [str(BIN / "pleura-coordinator"), "serve", "--port", str(port), "--data-dir", str(data)]
    server = subprocess.Popen(command, stdout=log, stderr=log, cwd=data.parent)
    try:
        address = f"http://127.0.0.1:{port}"
        transport = httpx.HTTPTransport(retries=10)  # waits with backoff until something listens
        with httpx.Client(transport=transport) as client:
            assert client.get(address + "/readyz", timeout=30).is_success
        yield address
    finally:
        server.terminate()
        server.wait(20)
        log.close()


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("requestfailed", lambda request: faults.append(request.url))
        yield page
        browser.close()
    assert faults == []


def test_an_operator_logs_in_sees_a_study_and_logs_out(url: str, data: Path, page: Page, tmp_path: Path) -> None:
    token = json.loads(coordinator(data, "operator", "add", "anna", "--json"))["token"]
    page.goto(url)
    page.get_by_label("Operator's token").fill("not-a-token")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("Nobody here was given this token")

    page.get_by_label("Operator's token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("anna (operator)")).to_be_visible()
    expect(page.get_by_text("pleura-coordinator study create")).to_be_visible()

    model = tmp_path / "first.safetensors"
    subprocess.run([BIN / "pleura-participant", "model", "new", "ucadi", "--out", model], check=True, timeout=120)
    coordinator(data, "study", "create", "--name", "lungs", "--model", str(model))
    page.reload()
    expect(page.get_by_role("heading", name="lungs")).to_be_visible()
    expect(page.get_by_text("study.created")).to_be_visible()

    page.get_by_role("link", name="lungs").click()
    expect(page.get_by_text("No round is complete yet")).to_be_visible()
    page.get_by_role("link", name="Pleura").click()
    expect(page.get_by_text("study.created")).to_be_visible()

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Operator's token")).to_be_visible()


def test_without_a_session_nothing_shows(url: str, page: Page) -> None:
    page.goto(url)
    expect(page.get_by_label("Operator's token")).to_be_visible()
    assert page.get_by_text("Audit log").count() == 0


def luminance(colour: str) -> float:
    """Relative luminance of "rgb(r, g, b)", as WCAG 2 defines it."""
    shares = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_plots_are_legible_in_light_and_dark(url: str, page: Page, scheme: Literal["light", "dark"]) -> None:
    (curve,) = roc_curves([[[1, 2, 5], [6, 1, 1]]])
    assert curve is not None
    page.emulate_media(color_scheme=scheme)
    page.goto(url)
    drawn = roc_plot(curve, "ROC", (0.2, 0.7)) + plot([0.5, 0.8], "AUC", 1.0, [(0.3, 0.7), (0.6, 0.9)])
    page.evaluate("drawn => { document.body.innerHTML = drawn }", f"<section>{drawn}</section>")
    style = "(element, name) => getComputedStyle(element)[name]"
    ground = luminance(page.locator("section").evaluate(style, "backgroundColor"))
    assert (ground > 0.5) == (scheme == "light")
    inks = {".roc polyline:not(.chance)": "stroke", ".chance": "stroke", ".roc circle": "fill", ".roc text": "fill"}
    for part, ink in (inks | {".curve polyline": "stroke"}).items():
        found = luminance(page.locator(part).first.evaluate(style, ink))
        contrast = (max(found, ground) + 0.05) / (min(found, ground) + 0.05)
        assert contrast >= (4.5 if part == ".roc text" else 3), (part, contrast)
    box = page.locator(".roc").bounding_box()
    assert box is not None
    assert box["width"] == 300
    assert 250 < box["height"] < 330


def test_a_script_cannot_read_the_session(url: str, data: Path, page: Page) -> None:
    token = json.loads(coordinator(data, "operator", "add", "zoe", "--role", "auditor", "--json"))["token"]
    page.goto(url)
    page.get_by_label("Operator's token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("zoe (auditor)")).to_be_visible()
    assert page.evaluate("document.cookie") == ""
