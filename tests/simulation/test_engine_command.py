"""`pleura-simulate run`, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.flatten import read_model
from simulation.cli import app

COMMON = ["run", "fl-cxr-resnet18", "--rounds", "1", "--set", "federation.fraction=1.0", "--set", "evaluation.bins=4"]


def test_a_stand_in_runs_and_its_folder_is_told(tmp_path: Path) -> None:
    command = [*COMMON, "--sites", "4", "--stand-in", "5000", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    model = tmp_path / "run" / "federation" / "models" / "round-001.safetensors"
    assert str(model) in done.output.replace("\n", "")
    assert read_model(model).vector.size == 5000
    assert "round 1: site-1, site-2, site-3, site-4" in done.output.replace("\n", "")
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, "a finished run is read back"
    assert "round 1" not in again.output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--set", "training.batch"], "KEY=VALUE"),
        (["--set", "training.bach=4"], "training.batch"),
        (["--division", "alphabetic", "--data", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_is_said_in_words(tmp_path: Path, change: list[str], words: str) -> None:
    done = CliRunner().invoke(app, [*COMMON, *change, "--out", str(tmp_path / "run")])
    assert done.exit_code == 1
    assert "failed:" in done.output
    assert words in done.output.replace("\n", "")
