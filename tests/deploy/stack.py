"""Processes as the samples start them, on free ports of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import samples
import tiny_federation as tiny
from tiny_federation import free_port


@dataclass(frozen=True, slots=True)
class Served:
    port: int
    process: subprocess.Popen[bytes]


def caddy_or_skip() -> str:
    found = shutil.which("caddy")
    if found is None:
        pytest.skip("caddy is not installed")
    return found


@contextlib.contextmanager
def coordinator(data: Path, port: int | None = None, **settings: str) -> Iterator[Served]:
    """`pleura-coordinator serve`, ready."""
    port = port or free_port()
    environment = {**os.environ, "PLEURA_DATA_DIR": str(data), "PLEURA_PORT": str(port), **settings}
    program = Path(sys.executable).with_name("pleura-coordinator")
    with running([str(program), "serve"], environment, data.with_suffix(f".{port}.log"), port) as process:
        yield Served(port, process)


@contextlib.contextmanager
def proxy(caddy: str, folder: Path, *ports: int) -> Iterator[str]:
    """Caddy with the shipped file, without TLS, before these ports."""
    folder.mkdir()
    port = free_port()
    environment = {
        **os.environ,
        "DOMAIN": f"http://127.0.0.1:{port}",
        "UPSTREAM": " ".join(f"127.0.0.1:{each}" for each in ports),
        "CADDY_ADMIN": f"127.0.0.1:{free_port()}",
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    command = [caddy, "run", "--config", str(samples.DOCKER / "Caddyfile"), "--adapter", "caddyfile"]
    with running(command, environment, folder / "log", port):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process from when it serves until it is asked to end."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            tiny.wait_until(lambda: process.poll() is not None or _ready(port), f"{command[0]}, see {log}", 120)
            assert process.poll() is None, log.read_text()
            yield process
        finally:
            process.terminate()
            process.wait(20)


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).is_success
    except httpx.TransportError:
        return False
