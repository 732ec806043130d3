"""The command line: what a hospital types, and what it reads when something is wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from safetensors import safe_open
from typer.testing import CliRunner, Result

from crypto.identity import Identity
from participant.cli import app


def run(*arguments: str, code: int = 0) -> str:
    result: Result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    run("init", "--home", str(made), "--name", "north", "--coordinator", "http://127.0.0.1:9", "--data", str(tmp_path))
    return made


def test_init_makes_a_home_and_shows_its_words(home: Path, tmp_path: Path) -> None:
    assert (home / "identity.json").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o077 == 0
    words = Identity.load(home / "identity.json").public.words
    again = run("init", "--home", str(home), "--name", "x", "--coordinator", "https://c", "--data", "d", code=1)
    assert "exists already" in again
    assert Identity.load(home / "identity.json").public.words == words, "nothing was overwritten"
    other = run("init", "--home", str(tmp_path / "b"), "--name", "b", "--coordinator", "https://c", "--data", "d")
    assert Identity.load(tmp_path / "b" / "identity.json").public.words in other


def test_init_names_every_wrong_option(tmp_path: Path) -> None:
    output = run("--home", str(tmp_path / "h"), "init", "--name", "", "--coordinator", "ftp://x", "--data", "d", code=1)
    assert "name: " in output
    assert "coordinator: " in output
    assert not (tmp_path / "h").exists()
    assert "ask or auto" in run("init", "--name", "n", "--coordinator", "https://c", "--data", "d", "--policy", "any",
                                code=1)  # fmt: skip


@pytest.mark.parametrize("command", [["run"], ["status"], ["roster"], ["approve", "study", "all"]])
def test_commands_before_enrolment_say_what_to_do(home: Path, command: list[str]) -> None:
    assert "pleura-participant enrol" in run("--home", str(home), *command, code=1)


@pytest.mark.parametrize("command", [["run"], ["enrol", "x"], ["status"]])
def test_commands_without_a_home_say_what_to_do(tmp_path: Path, command: list[str]) -> None:
    assert "pleura-participant init" in run("--home", str(tmp_path), *command, code=1)


def test_a_coordinator_that_is_away_is_named(home: Path) -> None:
    assert "http://127.0.0.1:9" in run("--home", str(home), "enrol", "invitation", code=1)


def test_the_ledger_is_shown_and_verified(home: Path) -> None:
    run("--home", str(home), "enrol", "invitation", code=1)
    assert "enrolment" in run("--home", str(home), "ledger")
    assert "1 lines, sound" in run("--home", str(home), "ledger", "verify")
    text = (home / "ledger.jsonl").read_text()
    (home / "ledger.jsonl").write_text(text.replace("enrolment", "nothing"))
    assert "line 1" in run("--home", str(home), "ledger", "verify", code=1)


def test_a_first_model_carries_the_changed_recipe(tmp_path: Path) -> None:
    file, again = tmp_path / "model.safetensors", tmp_path / "again.safetensors"
    changes = ["--set", "input.size=[16,32,32]", "--set", "training.batch=4", "--seed", "3"]
    assert "values in" in run("model", "new", "ucadi", "--out", str(file), *changes)
    run("model", "new", "ucadi", "--out", str(again), *changes)
    with safe_open(file, "numpy") as first, safe_open(again, "numpy") as second:
        metadata = first.metadata()
        assert all((first.get_tensor(name) == second.get_tensor(name)).all() for name in first.keys())  # noqa: SIM118
    recipe = json.loads(metadata["recipe"])
    assert (recipe["input"]["size"], recipe["training"]["batch"]) == ([16, 32, 32], 4)
    assert metadata["format"] == "pleura/model/v1"
    assert {count["name"] for count in json.loads(metadata["layout"])["counts"]} >= {"cases", "confusion", "scores"}


def test_a_first_model_from_a_checkpoint_or_an_earlier_study(tmp_path: Path) -> None:
    first, later = tmp_path / "first.safetensors", tmp_path / "later.safetensors"
    run("model", "new", "ucadi", "--out", str(first))
    new = ["model", "new", "ucadi", "--out", str(later), "--seed", "1"]
    run(*new, "--from", str(first))
    with safe_open(first, "numpy") as one, safe_open(later, "numpy") as two:
        assert all((one.get_tensor(name) == two.get_tensor(name)).all() for name in one.keys())  # noqa: SIM118
    frozen = ["--set", 'network.frozen=["stem.*"]']
    assert "freeze nothing" in run(*new, "--from", str(first), *frozen, code=1)
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    assert f"with SHA-256 {digest}" in run(*new, "--pretrained", str(first), *frozen)
    named = [*new, *frozen, "--set", f"network.pretrained={digest}"]
    assert "no file in" in run("--home", str(tmp_path / "home"), *named, code=1)
    (tmp_path / "home" / "checkpoints").mkdir(parents=True)
    first.rename(tmp_path / "home" / "checkpoints" / "any name")
    run("--home", str(tmp_path / "home"), *named)
    assert "nothing.pt" in run(*new, "--pretrained", str(tmp_path / "nothing.pt"), code=1)


def test_a_wrong_recipe_key_or_name_is_explained(tmp_path: Path) -> None:
    out = str(tmp_path / "model.safetensors")
    assert "input.size" in run("model", "new", "ucadi", "--out", out, "--set", "input.siz=3", code=1)
    assert "KEY=VALUE" in run("model", "new", "ucadi", "--out", out, "--set", "input.size", code=1)
    assert "ucadi" in run("model", "new", "ucady", "--out", out, code=1)
