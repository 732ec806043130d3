"""`pleura-coordinator operator ...` on the server, and who is named in the log for it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.app import open_services
from coordinator.cli import app
from coordinator.settings import Settings
from coordinator.store import operators
from coordinator.store.tables import Audit, Operator

DAY = 86_400


@pytest.fixture
def services(tmp_path: Path):
    services = open_services(Settings(data_dir=tmp_path))
    yield services
    services.store.close()


@pytest.fixture
def run(services, tmp_path: Path):
    def run(*words: str, code: int = 0):
        result = CliRunner().invoke(app, [*words, "--data-dir", str(tmp_path)])
        assert result.exit_code == code, result.output
        return result

    return run


def test_tokens_that_end(run, services) -> None:
    first = json.loads(run("operator", "add", "anna", "--days", "90", "--json").stdout)
    assert first["expires"] == pytest.approx(time.time() + 90 * DAY, abs=60)
    second = json.loads(run("operator", "renew", "anna", "--json").stdout)
    assert second["expires"] == pytest.approx(time.time() + 365 * DAY, abs=60)
    now = services.clock.now()
    assert services.store.read("find", lambda s: operators.find(s, first["token"], now)) is None
    assert services.store.read("find", lambda s: operators.find(s, second["token"], now)).name == "anna"
    shown = run("operator", "renew", "anna")
    assert shown.stdout.startswith("pleura-operator-")
    assert "Token of anna, good until 20" in shown.stderr


def test_a_revoked_one(run) -> None:
    run("operator", "add", "anna")
    run("operator", "revoke", "anna")
    assert "was revoked" in run("operator", "renew", "anna", code=1).stderr
    assert json.loads(run("operator", "add", "anna", "--role", "auditor", "--json").stdout)["role"] == "auditor"


def test_what_cannot_be(run) -> None:
    assert "cannot be an operator's name" in run("operator", "add", "anna (on the server)", code=1).stderr
    assert "--days" in run("operator", "add", "bo", "--days", "0", code=2).stderr
    assert "There is no operator 'eve'" in run("operator", "renew", "eve", code=1).stderr


def test_the_list(run, services) -> None:
    run("operator", "add", "anna", "--days", "1")
    run("operator", "add", "bo", "--role", "auditor")
    services.store.run("add", lambda s: operators.add(s, "old", "operator", "operator:test", 0.0))
    services.store.run("expire", lambda s: setattr(s.get_one(Operator, "anna"), "expires", 1.0))
    run("operator", "revoke", "bo")
    listed = json.loads(run("operator", "list", "--json").stdout)
    assert [(row["name"], row["role"], row["standing"]) for row in listed] == [
        ("anna", "operator", "expired"),
        ("bo", "auditor", "revoked"),
        ("old", "operator", "active"),
    ]
    assert listed[2]["expires"] is None
    shown = run("operator", "list").stdout
    assert "1970-01-01 00:00:01" in shown
    assert "until it is revoked" in shown


def test_a_user_whom_nobody_has_a_name_for(run, services, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as any number, without an entry in passwd and without variables that name somebody."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 1_234_567)
    run("invite")
    (row,) = services.store.read("audit", lambda s: s.query(Audit).all())
    assert row.actor == "operator:user 1234567 (on the server)"
