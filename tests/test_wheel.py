"""The wheel is complete: installed into an empty environment without torch, it migrates and serves from there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the built wheel and the coordinator's extra, exact versions from the lock."""
    folder = tmp_path_factory.mktemp("wheel")
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)])
    (wheel,) = folder.glob("pleura-*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    _run(
        [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "requirements.lock"), f"{wheel}[coordinator]"]
    )
    return folder / "venv"


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=Path(command[0]).anchor)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def served(environment: Path, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [environment / "bin" / "pleura-coordinator", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--data-dir", tmp_path / "data"],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": ""},
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _until_ready(url, server, tmp_path / "log")
            yield url
        finally:
            server.terminate()
            server.wait(20)


def _until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            if httpx.get(url + "/readyz", timeout=2).is_success:
                return
        except httpx.TransportError:
            continue
    pytest.fail(log.read_text())


@pytest.mark.slow
def test_the_installed_wheel_serves(served: str, environment: Path) -> None:
    assert httpx.get(served + "/v1/status").json()["product"] == "pleura"
    page = httpx.get(served + "/", follow_redirects=True)
    assert page.headers["content-type"].startswith("text/html")
    assert "Pleura" in page.text
    installed = _run([str(environment / "bin" / "python"), "-m", "pip", "list", "--format=freeze"])
    assert "torch" not in installed
