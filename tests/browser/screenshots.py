"""Photographs every page of a coordinator in both themes, at desktop and phone width: `make pictures`.

Serves the coordinator's folder that `--data-dir` names, as `pleura-simulate demo` leaves one, on a free port. It must
not have an operator anna yet.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

BIN: Final = Path(sys.executable).parent
THEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
WIDTHS: Final = {"desktop": 1280, "phone": 390}  # CSS pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="of a coordinator with at least one study")
    parser.add_argument("--out", type=Path, required=True, help="folder for all pictures")
    parser.add_argument("--docs", type=Path, help="folder for the few that documents show")
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    token = _coordinator(wanted.data_dir, "operator", "add", "anna", "--json")["token"]
    with _serving(wanted.data_dir) as url, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        addresses = _addresses(url, token)
        for theme, (device, width) in itertools.product(THEMES, WIDTHS.items()):
            page = _logged_in(chromium, url, token, theme, width)
            for name, path in addresses.items():
                page.goto(path)
                page.screenshot(path=wanted.out / f"{name}-{theme}-{device}.png", full_page=True)
            if wanted.docs is not None and (theme, device) == ("light", "desktop"):
                _for_docs(page, addresses, wanted.docs)
            page.close()
        chromium.close()


def _addresses(url: str, token: str) -> dict[str, str]:
    """Every page, by a name for its pictures."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as http:
        study = http.get("/v1/studies").raise_for_status().json()[-1]
        own = f"/studies/{study['id']}"
        last = http.get(f"/v1{own}/rounds").raise_for_status().json()[-1]
        site = http.get("/v1/sites").raise_for_status().json()[0]
    return {
        "studies": "/",
        "study": own,
        "round": f"{own}/rounds/{last['round']}/{last['attempt']}",
        "new-study": "/studies/new",
        "stop": f"{own}/stop",
        "sites": "/sites",
        "suspend": f"/sites/{site['id']}/suspend",
        "models": "/models",
        "model": f"/models/{study['model']}",
        "audit": "/audit",
        "verified": "/audit/verify",
        "settings": "/settings",
    }


def _for_docs(page: Page, addresses: dict[str, str], folder: Path) -> None:
    """The two that the README has."""
    page.goto(addresses["study"])
    page.set_viewport_size({"width": 1200, "height": 830})
    page.screenshot(path=folder / "dashboard.png")
    page.locator("#performance section").first.screenshot(path=folder / "study.png")


def _logged_in(chromium: Browser, url: str, token: str, theme: Literal["light", "dark"], width: int) -> Page:
    page = chromium.new_page(base_url=url, color_scheme=theme, viewport={"width": width, "height": 860})
    page.goto("/login")
    page.get_by_label("Operator's token").fill(token)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Studies").wait_for()
    return page


@contextmanager
def _serving(data_dir: Path) -> Iterator[str]:
    port = free_port()
    command = [BIN / "pleura-coordinator", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:  # waits until something listens
            client.get(f"{url}/readyz", timeout=30).raise_for_status()
        yield url
    finally:
        server.terminate()
        server.wait(20)


def _coordinator(data_dir: Path, *arguments: str) -> Any:
    command = [BIN / "pleura-coordinator", *arguments, "--data-dir", str(data_dir)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def free_port() -> int:
    """A TCP port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
