"""`pleura-coordinator` on the server: readable words, JSON for scripts, exit codes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from coordinator.app import open_services
from coordinator.cli import app
from coordinator.settings import Settings
from coordinator.store import operators
from coordinator.store.tables import Audit, SeenToken

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0):
        result = CliRunner().invoke(app, [*words, "--data-dir", str(data)])
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def first_model(tmp_path: Path, make_model) -> Path:
    path = tmp_path / "first.safetensors"
    path.write_bytes(make_model())
    return path


@pytest.fixture
def services(data: Path):
    services = open_services(Settings(data_dir=data))
    yield services
    services.store.close()


def test_operators(run, services) -> None:
    token = run("operator", "add", "anna").stdout.strip()
    now = services.clock.now()
    found = services.store.read("find", lambda s: operators.find(s, token, now))
    assert (found.name, found.role) == ("anna", "operator")
    made = json.loads(run("operator", "add", "zoe", "--role", "auditor", "--json").stdout)
    assert services.store.read("find", lambda s: operators.find(s, made["token"], now)).role == "auditor"
    assert "Choose another name" in run("operator", "add", "anna", code=1).stderr
    run("operator", "revoke", "anna")
    assert services.store.read("find", lambda s: operators.find(s, token, now)) is None
    assert "There is no operator 'eve'" in run("operator", "revoke", "eve", code=1).stderr
    assert "operator or auditor" in run("operator", "add", "bo", "--role", "king", code=2).stderr


def test_invitations(run) -> None:
    assert run("invite", "--note", "ward 3").stdout.startswith("pleura-invitation-")
    made = json.loads(run("invite", "--hours", "1", "--json").stdout)
    assert set(made) == {"invitation", "expires"}


def test_webhooks(run) -> None:
    made = json.loads(run("webhook", "add", "https://hooks.example.org/a", "--event", "round.failed", "--json").stdout)
    assert made["events"] == ["round.failed"]
    assert run("webhook", "add", "https://hooks.example.org/b").stdout.startswith("whsec_")
    shown = run("webhook", "list").stdout
    assert "https://hooks.example.org/b" in shown
    assert made["secret"] not in shown
    assert "https only" in run("webhook", "add", "http://hooks.example.org/", code=1).stderr
    assert "events.0" in run("webhook", "add", "https://hooks.example.org/", "--event", "tea", code=2).stderr
    run("webhook", "remove", made["id"])
    (left,) = json.loads(run("webhook", "list", "--json").stdout)
    assert left["url"] == "https://hooks.example.org/b"
    assert "There is no webhook" in run("webhook", "remove", made["id"], code=1).stderr


def test_a_study_from_draft_to_stopped(run, first_model: Path) -> None:
    created = json.loads(
        run("study", "create", "--model", str(first_model), "--name", "ct", "--rounds", "5", "--json").stdout
    )
    assert (created["rounds"], created["minimum_contributors"], created["state"]) == (5, 3, "draft")
    assert "is running" in run("study", "start", "ct").stdout
    assert "is paused" in run("study", "pause", created["id"]).stdout
    assert "is running" in run("study", "resume", created["id"][:8]).stdout
    assert json.loads(run("study", "list", "--json").stdout)[0]["state"] == "running"
    shown = json.loads(run("study", "show", "ct", "--json").stdout)
    assert (shown["history"], shown["members"]) == ([], [])
    assert "members: none yet" in run("study", "show", "ct").stdout
    for slip in ("", created["id"][:1], created["id"][:5]):  # a variable that is not set, a slip of the keys
        assert "There is no study" in run("study", "stop", slip, code=1).stderr
    run("study", "stop", "ct")
    assert "is stopped. To start it, it has to be draft." in run("study", "start", "ct", code=1).stderr


def test_a_new_key_can_be_asked_for(run, world_in) -> None:
    world = world_in
    world.create_study()
    world.join()
    world.deal()
    assert "study: a member deals a new key before the next round" in run("study", "rekey", "study").stdout
    epoch = world.sites[0].ok("GET", f"{world.study}/epoch").json()
    assert (epoch["state"], epoch["number"], epoch["record"]) == ("none", 2, None)
    assert epoch["dealer"] in {str(site.id) for site in world.sites}
    (retired,) = world.services.store.read("audit", lambda s: s.query(Audit).filter_by(action="epoch.retired").all())
    assert retired.actor.endswith("(on the server)")
    assert retired.detail == {"study": str(world.study_id), "epoch": 1, "reason": "an operator asked for a new key"}
    world.deal()
    assert world.sites[0].ok("GET", f"{world.study}/epoch").json()["state"] == "current"


def test_a_study_without_a_key_is_told_so(run, first_model: Path) -> None:
    run("study", "create", "--model", str(first_model), "--name", "xr", "--scheme", "lwe-shamir")
    assert "no key that lasts" in run("study", "rekey", "xr").stdout


def test_studies_that_cannot_be(run, first_model: Path, tmp_path: Path) -> None:
    model = ("--model", str(first_model))
    assert "scheme" in run("study", "create", *model, "--name", "ct", "--scheme", "rot13", code=2).stderr
    (tmp_path / "broken").write_bytes(b"nothing")
    broken = run("study", "create", "--model", str(tmp_path / "broken"), "--name", "ct", code=1)
    assert "no safetensors file" in broken.stderr
    run("study", "create", "--model", str(tmp_path / "absent"), "--name", "ct", code=2)
    assert "no study" in run("study", "show", "ct", code=1).stderr


def test_a_reference_has_to_be_clear(run, first_model: Path) -> None:
    for name in ("one", "two"):
        run("study", "create", "--model", str(first_model), "--name", name)
    assert "There is no study" in run("study", "show", "", code=1).stderr


def test_sites_and_suspension(run, world_in) -> None:
    world = world_in
    site = world.new_site("hospital-x")
    listed = json.loads(run("sites", "--json").stdout)
    assert [(entry["name"], entry["state"]) for entry in listed] == [("hospital-x", "active")]
    assert site.identity.public.words in run("sites").stdout
    run("site", "suspend", "hospital-x")
    assert site.call("GET", "/v1/studies").json()["code"] == "site-suspended"
    run("site", "readmit", "hospital-x")
    assert site.call("GET", "/v1/studies").status_code == 200
    assert "There is no site 'nobody'" in run("site", "suspend", "nobody", code=1).stderr


@pytest.fixture
def world_in(world, data: Path):
    """The world whose data the commands work on."""
    assert world.services.settings.data_dir == data
    return world


def test_the_audit_chain(run, services) -> None:
    run("operator", "add", "anna")
    run("invite")
    assert "2 rows, one unbroken chain" in run("audit", "verify").stderr
    actors = services.store.read("actors", lambda s: {row.actor for row in s.query(Audit)})
    assert all(actor.startswith("operator:") and actor.endswith("(on the server)") for actor in actors)

    def tamper(session) -> None:
        session.get_one(Audit, 1).detail = {"name": "eve"}

    services.store.run("tamper", tamper)
    assert "broken at row 1" in run("audit", "verify", code=1).stderr


def test_settings_that_cannot_be(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEURA_PORT", "many")
    assert "port (from the variable PLEURA_PORT)" in run("sites", code=2).stderr
    monkeypatch.delenv("PLEURA_PORT")
    assert "There is no settings file" in run("sites", "--config", str(tmp_path / "absent.toml"), code=2).stderr


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["sites", "--data-dir", str(tmp_path / "file" / "data")])
    assert result.exit_code == 1
    assert "cannot be used" in result.stderr


def test_help_without_words() -> None:
    result = CliRunner().invoke(app, [])
    for word in ("serve", "operator", "invite", "study", "audit", "sites"):
        assert word in result.output


@pytest.fixture
def served(world_in, data: Path, tmp_path: Path):
    """A real process on the world's data, its address, and its log."""
    world = world_in
    world.clock.advance(time.time() - world.clock.now())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world.begin()
    command = [sys.executable, "-c", "from coordinator.cli import app; app()", "serve", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([*command, "--data-dir", str(data)], cwd=ROOT, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: ready(address), lambda: server.poll() is None)
        yield server, address, tmp_path / "log"
    finally:
        server.kill()
        server.wait(20)


def ready(address: str) -> bool:
    try:
        return httpx.get(address + "/readyz", timeout=5).is_success
    except httpx.TransportError:
        return False


def until(condition, alive, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_waiting_agent_is_answered_when_the_server_stops(served, world_in) -> None:
    server, address, log = served
    site, path = world_in.sites[0], address + world_in.study + "/task"

    def bearer() -> dict[str, str]:
        now = time.time()
        return {"Authorization": f"Bearer {site.token(iat=now, exp=now + 60)}"}

    task = httpx.get(path, headers=bearer(), timeout=30).json()
    with ThreadPoolExecutor(1) as pool:
        seen = requests(world_in, site)
        query = {"cursor": task["cursor"], "wait": 25}
        waiting = pool.submit(httpx.get, path, params=query, headers=bearer(), timeout=30)
        until(lambda: requests(world_in, site) > seen, lambda: server.poll() is None and not waiting.done())
        server.terminate()
        assert waiting.result(20).json() == task
    server.wait(20)
    words = log.read_text()
    assert "Traceback" not in words
    assert "Finished server process" in words


def requests(world, site) -> int:
    """How many tokens the site has used: one a request."""
    used = select(func.count()).where(SeenToken.site_id == site.id)
    return world.services.store.read("used", lambda s: s.scalar(used))
