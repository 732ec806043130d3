"""The real series, volumes and films beside the checkout go through importing, and read as they did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from participant.cli import app
from participant.data.cases import find_cases
from participant.data.readers import read_case

DATA = Path(__file__).parents[2].parent / "shared/data"
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the real images are not at {DATA}"),
]


def command(*arguments: Any) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    given = ["--name", "n", "--coordinator", "http://127.0.0.1:9", "--data", tmp_path / "data"]
    command("init", "--home", tmp_path / "home", *given)
    return tmp_path / "home"


def pixels(series: Path) -> list[bytes]:
    """Compressed, as they are stored."""
    return sorted(pydicom.dcmread(path).PixelData for path in series.iterdir())


def test_compressed_ct_series(home: Path, tmp_path: Path) -> None:
    source = DATA / "ct-dicom"
    (tmp_path / "labels.csv").write_text("path,label\ncovid,covid-19\ncap,pneumonia\nnormal,healthy\n")
    said = command("--home", home, "import", "folder", source, "--labels", tmp_path / "labels.csv")
    assert "imported │ 3 │" in said
    assert "newly labelled │ 3 │" in said
    classes = ("healthy", "pneumonia", "covid-19")
    found = {classes[case.label]: case for case in find_cases(tmp_path / "data", classes).cases}
    assert len({case.patient for case in found.values()}) == 3
    for label, folder in (("healthy", "normal"), ("pneumonia", "cap"), ("covid-19", "covid")):
        (original,) = (source / folder).iterdir()
        assert pixels(found[label].path) == pixels(original)
    expected, volume = read_case(next((source / "normal").iterdir())), read_case(found["healthy"].path)
    np.testing.assert_array_equal(volume.voxels, expected.voxels)
    assert volume.spacing == expected.spacing
    assert "here already │ 3 │" in command("--home", home, "import", "folder", source)


def test_nifti_volumes(home: Path, tmp_path: Path) -> None:
    command("--home", home, "import", "folder", DATA / "ct-nifti", "--class", "healthy")
    originals = [read_case(path).voxels for path in sorted((DATA / "ct-nifti").glob("*x64.nii.gz"))]
    cases = [read_case(case.path).voxels for case in find_cases(tmp_path / "data", ("healthy",)).cases]
    assert len(originals) == 2
    assert all(any(np.array_equal(case, original) for case in cases) for original in originals)


def test_films(home: Path, tmp_path: Path) -> None:
    source = DATA / "xray-originals"
    (tmp_path / "labels.csv").write_text("path,label\ncovid,covid-19\nnormal,normal\n")
    said = command("--home", home, "import", "folder", source, "--labels", tmp_path / "labels.csv")
    assert "imported │ 9 │" in said
    assert "newly labelled │ 6 │" in said
    originals = [read_case(path).voxels for path in source.rglob("*") if path.suffix in (".png", ".jpg", ".jpeg")]
    cases = [read_case(path).voxels for path in (tmp_path / "data" / "cases").iterdir()]
    assert len(cases) == 9
    assert all(any(np.array_equal(case, original) for original in originals) for case in cases)
