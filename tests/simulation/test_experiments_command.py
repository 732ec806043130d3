"""The command that runs an experiment: what it is told, what it explains, and its bar."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from simulation.cli import app
from simulation.experiments.facts import command_of
from simulation.experiments.papers import EXPERIMENTS
from simulation.experiments.progress import Bars
from simulation.experiments.runner import Settings


def test_the_command_explains_what_is_missing(tmp_path: Path) -> None:
    where = ["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")]
    told = CliRunner().invoke(app, ["experiment", "fl-cxr", *where])
    assert told.exit_code == 1
    assert "failed:" in told.output
    assert "nowhere" in told.output.replace("\n", "")


def test_films_are_divided_as_wished(tmp_path: Path) -> None:
    own, wished = EXPERIMENTS["fl-cxr"]("small"), EXPERIMENTS["fl-cxr"]("small").divided("dirichlet:0.5")
    assert [cohort.division for cohort in wished.data.values()] == ["dirichlet:0.5"] * len(own.data)
    settings = Settings(None, tmp_path, 1)
    assert "--division dirichlet:0.5" in command_of(wished, settings, "small", None)
    assert "--division" not in command_of(own, settings, "small", None)


@pytest.mark.parametrize(("name", "division", "words"), [
    ("fl-cxr", "by-moon", "no way of dividing cases is called 'by-moon'"),
    ("ucadi", "iid", "hospitals of ucadi are its scanners"),
])  # fmt: skip
def test_a_division_that_cannot_be_is_explained(tmp_path: Path, name: str, division: str, words: str) -> None:
    told = CliRunner().invoke(app, ["experiment", name, "--division", division, "--out", str(tmp_path / "run")])
    assert told.exit_code == 2
    assert words in " ".join(told.output.replace("│", " ").split())


def test_one_bar_counts_the_steps_of_all_units_and_each_unit_ends_with_a_line() -> None:
    console = Console(record=True, width=100, file=io.StringIO())
    with Bars(console, total=6) as bars:
        bars.beside("drawing phantoms", 1, 2)
        bars.beside("drawing phantoms", 2, 2)
        for done in (1, 1, 2, 3):
            bars.unit("a, seed 1", done, 3)
        bars.unit("b, seed 1", 1, 3)
        assert (bars.done, bars.shown) == (4, ["b, seed 1"])
    text = console.export_text()
    assert text.count("a, seed 1: done") == 1
    assert "b, seed 1: done" not in text
