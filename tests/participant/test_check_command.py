"""`pleura-participant check-data`: what it prints, writes and ends with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import checked_data as data
import pytest
from typer.testing import CliRunner, Result

from participant.cli import app
from participant.data.checks import Report


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    import tomli_w

    file = tmp_path_factory.mktemp("recipe") / "films.toml"
    file.write_text(tomli_w.dumps(data.FILMS.model_dump(mode="json", exclude_none=True)))
    return str(file)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    return data.write_films(tmp_path / "films", 15)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["check-data", *arguments])


def test_without_a_home_a_folder_is_checked_and_a_page_is_written(films: Path, tmp_path: Path, recipe: str) -> None:
    page = tmp_path / "page.html"
    home = str(tmp_path / "none")
    result = run(recipe, "--data", str(films), "--out", str(page), "--home", home)
    assert result.exit_code == 0, result.output
    assert "Training can begin" in result.output
    assert str(page) in " ".join(result.output.split())
    assert "Training can begin" in page.read_text()
    assert page.stat().st_mode & 0o077 == 0
    assert not (tmp_path / "none").exists()


def test_it_ends_with_1_where_a_training_could_not_begin(films: Path, tmp_path: Path, recipe: str) -> None:
    (films / "normal" / "torn.png").write_bytes(b"torn")
    result = run(recipe, "--data", str(films), "--out", str(tmp_path / "page.html"), "--home", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "Training cannot begin" in result.output
    assert "normal/torn.png" in (tmp_path / "page.html").read_text().replace("<wbr>", "")


def test_at_a_site_the_report_is_kept_for_the_local_page(films: Path, tmp_path: Path, recipe: str) -> None:
    home = tmp_path / "home"
    made = ["init", "--home", str(home), "--name", "north", "--coordinator", "https://c", "--data", str(films)]
    assert CliRunner().invoke(app, made).exit_code == 0
    result = run(recipe, "--home", str(home), "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert "thumbnails" not in printed
    kept = Report.from_json((home / "data-report.json").read_text())
    assert json.loads(kept.to_json(pictures=False)) == printed
    assert kept.data == str(films)
    assert (home / "data-report.html").read_text().startswith("<!doctype html>")
    elsewhere = Path(shutil.copytree(films, tmp_path / "elsewhere"))
    run(recipe, "--home", str(home), "--data", str(elsewhere))
    assert Report.from_json((home / "data-report.json").read_text()) == kept, "the page shows this site's data only"


def test_what_was_mistyped_is_explained(films: Path, tmp_path: Path) -> None:
    home = ["--home", str(tmp_path / "none")]
    assert "pleura-participant init" in run("ucadi", *home).output
    for arguments in ([], ["ucadi", "--study", "lungs"]):
        result = run(*arguments, "--data", str(films), *home)
        assert result.exit_code == 1
        assert "check-data ucadi" in result.output
    assert "perhaps you meant ucadi" in " ".join(run("ucady", "--data", str(films), *home).output.split())
