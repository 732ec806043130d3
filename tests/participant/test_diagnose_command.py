"""`diagnose` and `serve` on the terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path

import agent_pages as visits
import lit_scans as lit
import pytest
from typer.testing import CliRunner

from participant.cli import app

WIDE = {"COLUMNS": "300"}


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return lit.write_series(tmp_path / "series", lit.volume(20, (14, 34, 10)))


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments], env=WIDE)
    assert done.exit_code == code, done.output
    return done.output


def test_a_folder_is_looked_at_and_stays_as_it_is(tmp_path: Path, series: Path) -> None:
    model = visits.write_model(tmp_path / "federated.safetensors", 1)
    before = {file.name: file.read_bytes() for file in series.iterdir()}
    shown = run("--home", tmp_path / "none", "diagnose", series, "--model", model, "--out", tmp_path / "case.html")
    assert "Not a medical device" in shown
    assert "covid-19" in shown
    assert {file.name: file.read_bytes() for file in series.iterdir()} == before
    page = (tmp_path / "case.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    assert "Not a medical device" in page
    assert "P-77" not in page


def test_figures_for_programs(tmp_path: Path, series: Path) -> None:
    models = [visits.write_model(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    options = [part for model in models for part in ("--model", model)]
    arguments = ("--home", tmp_path / "none", "diagnose", series, *options, "--json")
    done = CliRunner().invoke(app, [str(each) for each in arguments], env=WIDE)
    found = json.loads(done.stdout)  # how far it is goes to the other stream
    assert (found["kind"], found["slices"], len(found["opinions"])) == ("ct", 20, 2)
    for opinion in found["opinions"]:
        assert sum(each["probability"] for each in opinion["classes"].values()) == pytest.approx(1, abs=1e-5)


def test_the_agents_own_models_are_found_by_their_digits(tmp_path: Path, series: Path) -> None:
    home = visits.agents_home(tmp_path / "home")
    made = visits.write_model(tmp_path / "m.safetensors", 1)
    kept = home.models / f"{'ab12' * 16}.safetensors"
    made.rename(kept)
    assert "likeliest" in run("--home", home.path, "diagnose", series, "--model", "ab12")
    words = run("--home", home.path, "diagnose", series, "--model", "cd", code=1)
    assert re.search("no model here begins with cd. Kept here: ab12ab12ab12", words)
    (tmp_path / "scan.txt").write_text("no scan")
    assert "there is no scan" in run("--home", home.path, "diagnose", tmp_path / "scan.txt", code=1)


def test_without_a_model(tmp_path: Path, series: Path) -> None:
    assert "name a file with --model" in run("--home", tmp_path / "none", "diagnose", series, code=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "::"], "say by which name"),
        (["--public"], "one released model"),
        ([], "is no agent's home"),
    ],
)
def test_what_serve_refuses(tmp_path: Path, options: list[str], words: str) -> None:
    assert words in run("--home", tmp_path / "none", "serve", *options, code=1)
