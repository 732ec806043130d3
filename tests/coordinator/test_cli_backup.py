"""The commands around the disk, as an operator types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.store.blobs import Blobs, model_key
from migrations import revisions


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def run(*arguments: str, data: str = "here", code: int = 0) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--data-dir", str(tmp_path / data)])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def study(run, tmp_path: Path, make_model) -> None:
    (tmp_path / "first.safetensors").write_bytes(make_model())
    run("study", "create", "--name", "lungs", "--model", str(tmp_path / "first.safetensors"))


def test_saved_here_and_restored_there(run, study, tmp_path: Path) -> None:
    target = tmp_path / "backups"
    target.mkdir()
    made = json.loads(run("backup", str(target), "--json").stdout)
    (file,) = target.iterdir()
    assert (made["file"], made["bytes"], made["missing"]) == (str(file), file.stat().st_size, [])
    assert file.stat().st_mode & 0o777 == 0o600
    restored = run("restore", str(file), data="there")
    assert f"{made['rows']} rows and {made['blobs']} blobs of coordinator {made['coordinator']}" in restored.stderr
    assert "lungs" in run("study", "show", "lungs", data="there").output
    assert "one unbroken chain" in run("audit", "verify", data="there").stderr
    assert "rows in the database already" in run("restore", str(file), code=1).stderr
    assert "not overwritten" in run("backup", str(file), code=1).stderr


def test_a_backup_that_lacks_something_says_so_and_ends_with_1(run, study, tmp_path: Path) -> None:
    run("backup", str(tmp_path / "whole.tar"))
    blobs = Blobs(tmp_path / "here" / "blobs")
    (model,) = [each.key for each in blobs.everything() if each.key.startswith("models/")]
    blobs.delete(model)
    assert model in run("backup", str(tmp_path / "half.tar"), code=1).stderr
    assert model in run("restore", str(tmp_path / "half.tar"), data="there", code=1).stderr


def test_nothing_is_saved_from_a_blob_store_that_is_not_ours(run, study, tmp_path: Path) -> None:
    run("backup", str(tmp_path / "whole.tar"))
    (tmp_path / "here" / "blobs").rename(tmp_path / "elsewhere")
    assert "not the one that belongs to the database" in run("backup", str(tmp_path / "b.tar"), code=1).stderr
    assert not (tmp_path / "b.tar").exists()


def test_no_command_works_on_a_blob_store_that_is_not_ours(run, study, tmp_path: Path) -> None:
    """Else a new database would join it, as something that it refers to were then in it."""
    (tmp_path / "other").mkdir()
    (tmp_path / "here" / "blobs").rename(tmp_path / "other" / "blobs")
    model = str(tmp_path / "first.safetensors")
    create = ("study", "create", "--name", "second", "--model", model)
    for data, command in (("here", create), ("here", ("disk",)), ("other", create), ("other", ("disk",))):
        assert "not the one that belongs to the database" in run(*command, data=data, code=1).stderr
    assert not list(Blobs(tmp_path / "here" / "blobs").everything())


def test_migrate_ends_at_the_newest_revision(run) -> None:
    assert f"revision {revisions()[-1]}; 0 audit rows" in run("migrate").stderr


def test_disk_tells_by_kind(run, study, tmp_path: Path) -> None:
    Blobs(tmp_path / "here" / "blobs").put_bytes(model_key("ab" * 32), bytes(1000))
    found = json.loads(run("disk", "--json").stdout)
    assert found["kinds"]["models"]["files"] == 2
    assert found["kinds"]["models"]["size"] > 1000
    assert found["free"] > 0
    shown = run("disk")
    assert "models" in shown.stdout
    assert "bytes are free" in shown.stderr
