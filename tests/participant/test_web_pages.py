"""Status, data and history: what the agent's files say, while nothing writes to them here."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import agent_pages as visits
import httpx
import pytest

from models.recipe import load_recipe
from participant.data.checks import check
from participant.ledger import Ledger
from participant.settings import Home
from participant.web.agent_view import agent_view
from participant.web.settings import Page


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return visits.agents_home(tmp_path / "home")


@pytest.fixture
def client(home: Home) -> Iterator[httpx.Client]:
    with visits.client_of(Page(home, [], device="cpu")) as client:
        yield client


def ask_for_approval(home: Home, event: str = "peer-waits", **fields: object) -> None:
    words = "City Hospital waits for approval: able-baker. Compare by telephone"
    peer = {"study": str(visits.STUDY), "site": str(visits.PEER), "name": "City Hospital"}
    Ledger(home.ledger).append(event, **peer, words=words, **fields)


def test_status_tells_study_round_and_phase(client: httpx.Client, home: Home) -> None:
    shown = client.get("/").text
    for words in ("St. Mary", "agent not running", "lungs", "delivered; waiting for the others", "is not enrolled"):
        assert words in shown
    view = agent_view(home.ledger, home.lock)
    study = view.studies[str(visits.STUDY)]
    assert (study.round, study.attempt, study.rounds, study.sent) == (4, 1, 1, 2_981_888 + 434)
    Ledger(home.ledger).append("ballot", study=str(visits.STUDY), round=4, attempt=1)
    assert "checking the ballot" in client.get("/").text


def test_a_running_agent_is_seen_and_not_disturbed(client: httpx.Client, home: Home) -> None:
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        assert "agent not running" in client.get("/").text
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert "agent running" in client.get("/").text
    finally:
        os.close(descriptor)


def test_approvals_are_wanted_until_they_are_given(client: httpx.Client, home: Home) -> None:
    assert "Approvals wanted" not in client.get("/").text
    ask_for_approval(home)
    shown = client.get("/").text
    assert "Approvals wanted" in shown
    assert "able-baker" in shown
    Ledger(home.ledger).append("peer-approved", study=str(visits.STUDY), site=str(visits.PEER), how="operator")
    assert "Approvals wanted" not in client.get("/").text
    ask_for_approval(home, "refusal", code="peer-changed")
    assert "Approvals wanted" in client.get("/").text


def test_refusals_and_a_changed_ledger_are_shown(client: httpx.Client, home: Home) -> None:
    words = "the recipe <b>evil</b> is not among `recipes`"
    Ledger(home.ledger).append("refusal", study=str(visits.STUDY), code="recipe-not-allowed", words=words)
    shown = client.get("/").text
    assert "recipe-not-allowed" in shown
    assert "<b>evil" not in shown
    home.ledger.write_text(home.ledger.read_text().replace("lungs", "lunge"))
    shown = client.get("/").text
    assert "The ledger was changed" in shown
    assert "line 1 of the ledger" in shown
    assert client.get("/history").status_code == 200


def test_history_lists_what_left_with_hashes_and_sizes(client: httpx.Client, home: Home) -> None:
    shown = client.get("/history").text
    for words in ("m" * 64, "p" * 64, "3.0 MB", "434 B", "manifest", "lungs"):
        assert words in shown
    for number in range(130):
        Ledger(home.ledger).append("sent", what="part", bytes=number, sha256=f"{number:064}", study=str(visits.STUDY))
    first, second = client.get("/history").text, client.get("/history?page=2").text
    assert f"{129:064}" in first
    assert f"{20:064}" not in first
    assert f"{20:064}" in second
    assert client.get("/history?page=0").status_code == 400


def test_the_data_page_shows_the_last_check(client: httpx.Client, home: Home, site: Path) -> None:
    assert "check-data RECIPE" in client.get("/data").text
    recipe = load_recipe("ucadi").overridden({"network.classes": ["a", "b", "c"], "training.class_weights": "none"})
    report = check(site, recipe, made=datetime(2026, 1, 1, tzinfo=UTC))
    home.data_report.write_text(report.to_json())
    shown = client.get("/data").text
    assert 'class="data-report"' in shown
    assert ".data-report" in client.get("/data-report.css").text
    home.data_report.write_text('{"format": "pleura/data-report/v9"}')
    assert "of another version" in client.get("/data").text


def test_pages_change_nothing_of_the_agents(client: httpx.Client, home: Home) -> None:
    def digests() -> dict[str, str]:
        files = (file for file in home.path.rglob("*") if file.is_file())
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    before = digests()
    for path in ("/", "/data", "/history", "/diagnose"):
        assert client.get(path).status_code == 200
    assert digests() == before
