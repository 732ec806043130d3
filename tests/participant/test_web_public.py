"""The page for whoever comes by: one model, nothing of a hospital, limits, nothing stored."""

from __future__ import annotations

import tempfile
from pathlib import Path

import agent_pages as visits
import lit_scans as lit
import pytest

from participant.diagnosis.limits import PUBLIC
from participant.diagnosis.models import given_file
from participant.policy import Refused
from participant.web.rate import Rate
from participant.web.settings import Page


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def page(tmp_path: Path, clock: Clock) -> Page:
    return Page(None, [given_file(visits.write_model(tmp_path / "released.safetensors", 1))], device="cpu", clock=clock)


@pytest.fixture
def scan(tmp_path: Path) -> bytes:
    series = lit.write_series(tmp_path / "series", lit.volume(20, (14, 34, 10)))
    return lit.zipped(series, tmp_path / "scan.zip").read_bytes()


def test_only_the_form_is_there(page: Page) -> None:
    with visits.client_of(page) as client:
        for path in ("/data", "/history", "/login", "/data-report.css"):
            assert client.get(path).status_code == 404
        shown = client.get("/").text
        assert "released" in shown
        assert "never stored" in shown
        assert 'href="/history"' not in shown
        assert f"{PUBLIC.upload // 2**20:,} MB" in shown


def test_nothing_is_stored_and_results_go(
    page: Page, clock: Clock, scan: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before = sorted(tmp_path.rglob("*"))
    with visits.client_of(page) as client:
        path = visits.give(client, page, [("scan", ("scan.zip", scan))])
        assert "20 slices" in client.get(path).text
        assert sorted(tmp_path.rglob("*")) == before
        clock.now += 599
        assert client.get(path).status_code == 200
        clock.now += 2
        assert client.get(path).status_code == 404


def test_strangers_wait_their_turn(page: Page, clock: Clock, scan: bytes) -> None:
    with visits.client_of(page) as client:
        form = {"data": {"model": page.files()[0].digest}, "files": [("scan", ("s.zip", scan[:50]))]}
        answers = [client.post("/diagnose", **form).status_code for _ in range(11)]
        assert set(answers[:10]) <= {303, 503}
        assert answers[10] == 429
        clock.now += 3601
        assert client.post("/diagnose", **form).status_code in (303, 503)


def test_rates_are_of_each_address(clock: Clock) -> None:
    rate = Rate(2, 60.0, clock)
    rate.take("a")
    clock.now += 30
    rate.take("a")
    rate.take("b")
    with pytest.raises(Refused, match="try again in 1"):
        rate.take("a")
    clock.now += 31
    rate.take("a")
    with pytest.raises(Refused):
        rate.take("a")
