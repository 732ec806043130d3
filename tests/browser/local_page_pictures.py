"""Photographs every page of an agent in both themes, at desktop and phone width: `make pictures`.

Serves the agent's folder that `--home` names, as `pleura-simulate demo` leaves one, and looks at the first case of
`--scans`, a class's folder of DICOM series, with its two newest models.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent))

from screenshots import BIN, THEMES, WIDTHS, free_port

PAGES: Final = {"status": "/", "data": "/data", "history": "/history", "diagnose": "/diagnose"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="of an agent that took part in a study")
    parser.add_argument("--scans", type=Path, required=True, help="folder of DICOM series")
    parser.add_argument("--out", type=Path, required=True, help="folder for all pictures")
    parser.add_argument("--docs", type=Path, help="folder for the few that documents show")
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    scan = zipped(sorted(wanted.scans.iterdir())[0], wanted.out / "scan.zip")
    recipe = "ucadi"
    subprocess.run([BIN / "pleura-participant", "--home", wanted.home, "check-data", recipe], check=False, timeout=300)
    with serving(wanted.home) as url, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        case = _look(chromium, url, scan)
        for theme, (device, width) in itertools.product(THEMES, WIDTHS.items()):
            page = _opened(chromium, url, theme, width)
            for name, path in {**PAGES, "case": case}.items():
                _photograph(page, path, wanted.out / f"agent-{name}-{theme}-{device}.png")
            if wanted.docs is not None and (theme, device) == ("light", "desktop"):
                page.set_viewport_size({"width": 1200, "height": 700})
                _photograph(page, "/", wanted.docs / "agent.png", whole=False)
            if wanted.docs is not None and (theme, device) == ("dark", "desktop"):
                page.set_viewport_size({"width": 1200, "height": 1100})
                _photograph(page, case, wanted.docs / "diagnose.png", whole=False)
                _shrink(wanted.docs / "diagnose.png")
            page.close()
        chromium.close()


def zipped(series: Path, archive: Path) -> Path:
    """The files of a folder, as an archive's viewer exports them."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for each in sorted(series.iterdir()):
            file.write(each, f"{series.name}/{each.name}")
    return archive


@contextmanager
def serving(home: Path, *options: str) -> Iterator[str]:
    """The page of an agent's folder, in a process of its own."""
    port = free_port()
    command = [BIN / "pleura-participant", "--home", str(home), "serve", "--port", str(port), *options]
    server = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=12)) as client:  # waits until something listens
            client.get(f"{url}/static/page.css", timeout=60).raise_for_status()
        yield url
    finally:
        server.terminate()
        server.wait(20)


def look_at(page: Page, scan: Path, models: int) -> None:
    """Give a scan, and wait for what the first models make of it."""
    page.goto("/diagnose")
    for box in page.get_by_role("checkbox").all()[:models]:
        box.check()
    page.locator("#scan").set_input_files(scan)
    page.get_by_role("button", name="Look at it").click()
    page.get_by_role("heading", name="What speaks for").wait_for(timeout=240_000)


def _look(chromium: Browser, url: str, scan: Path) -> str:
    page = _opened(chromium, url, "light", WIDTHS["desktop"])
    look_at(page, scan, 2)
    path = page.evaluate("location.pathname")
    page.close()
    return str(path)


def _opened(chromium: Browser, url: str, theme: Literal["light", "dark"], width: int) -> Page:
    return chromium.new_page(base_url=url, color_scheme=theme, viewport={"width": width, "height": 860})


def _photograph(page: Page, path: str, file: Path, *, whole: bool = True) -> None:
    page.goto(path, wait_until="networkidle")
    page.screenshot(path=file, full_page=whole)


def _shrink(file: Path) -> None:
    """To 256 colours: scans make a photograph large."""
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(file, optimize=True)


if __name__ == "__main__":
    main()
