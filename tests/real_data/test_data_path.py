"""The real CTs go the whole way of a hospital's data: imported, checked, trained on, and one looked at again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from typer.testing import CliRunner

from models.flatten import save_model, study_layout, to_vector
from models.recipe import Recipe, load_recipe
from models.registry import build
from participant.cli import app
from participant.terms import RoundTerms
from participant.training import site_trainer

DATA = Path(__file__).parents[2].parent / "shared/data"
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the real images are not at {DATA}"),
]
LABELS: Final = {"covid": "covid-19", "cap": "bacterial", "normal": "healthy"}  # by folder, in the recipe's classes


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """UCADI's, with a network and volumes that two processors train within seconds."""
    small = {"network.options.width": 4, "network.options.growth": 4, "input.size": [16, 32, 32]}
    return load_recipe("ucadi").overridden({**small, "training.batch": 2, "training.precision": "32"})


def command(*arguments: Any, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a home and what was imported into it: three DICOM series and two NIfTI volumes."""
    folder = tmp_path_factory.mktemp("hospital")
    here = ["--name", "n", "--coordinator", "http://127.0.0.1:9", "--data", folder / "data"]
    command("init", "--home", folder / "home", *here)
    table = folder / "labels.csv"
    table.write_text("path,label\n" + "".join(f"{place},{label}\n" for place, label in LABELS.items()))
    command("--home", folder / "home", "import", "folder", DATA / "ct-dicom", "--labels", table)
    (folder / "volumes").mkdir()
    for volume in (DATA / "ct-nifti").glob("*x64.nii.gz"):
        shutil.copy(volume, folder / "volumes")
    command("--home", folder / "home", "import", "folder", folder / "volumes", "--class", "healthy")
    return folder


def test_the_check_finds_nothing_to_put_right(hospital: Path) -> None:
    page = hospital / "check.html"
    found = json.loads(command("--home", hospital / "home", "check-data", "ucadi", "--json", "--out", page))
    counted = {row["label"]: sum(row["cases"].values()) for row in found["counts"]}
    assert counted == {"healthy": 3, "covid-19": 1, "other-viral": 0, "bacterial": 1}
    assert not [finding for finding in found["findings"] if finding["severity"] == "error"]
    assert page.read_text().count("data:image/") >= 5


def test_masks_among_the_volumes_are_found(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for label in ("healthy", "bacterial"):
        shutil.copytree(DATA / "ct-nifti", data / label)
    asked = ["--data", data, "--out", tmp_path / "check.html"]
    found = json.loads(command("--home", tmp_path, "check-data", "ucadi", *asked, "--json", code=1))
    (airless,) = [finding for finding in found["findings"] if finding["kind"] == "no-air"]
    assert {note["case"].removesuffix("-msk.nii.gz").split("/")[-1][:5] for note in airless["cases"]} == {
        "id001",
        "id002",
    }
    assert len(airless["cases"]) == 4


def test_training_and_a_scan_looked_at_again(hospital: Path, recipe: Recipe) -> None:
    network = build(recipe)
    layout = study_layout(network, recipe)
    base = to_vector(network, layout)
    trainer = site_trainer(recipe, hospital / "data", hospital / "cache", 1, state_dir=hospital)
    result = trainer.train(base, layout, RoundTerms(1), lambda done, total: None)
    assert np.isfinite(result.vector).all()
    assert np.abs(result.vector - base).max() > 0
    model = hospital / "trained.safetensors"
    save_model(model, result.vector, layout, recipe)

    (series,) = (DATA / "ct-dicom/covid").iterdir()
    scan = Path(shutil.make_archive(str(hospital / "scan"), "zip", series))
    page = hospital / "case.html"
    said = command("--home", hospital / "none", "diagnose", scan, "--model", model, "--json", "--out", page)
    found = json.loads(said)
    assert (found["kind"], found["slices"]) == ("ct", 148)
    (opinion,) = found["opinions"]
    assert set(opinion["classes"]) == set(recipe.network.classes)
    assert page.read_text().count("data:image/png;base64,") >= 3
