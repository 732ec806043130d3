"""What phantoms are written as is valid, complete, in no order of names, and the same for a seed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import CTImageStorage

from simulation.phantoms import Difficulty, Scanner, ct_phantom, make_hospital

TINY = Scanner("tiny", matrix=24, slice_thickness=20.0)
MIX = {"healthy": 1, "covid-19": 2, "bacterial": 1}


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    assert listed
    return "\n".join(listed)


def test_a_hospital_is_a_folder_per_class_of_valid_series(tmp_path: Path) -> None:
    steps = []
    make_hospital(tmp_path, MIX, TINY, seed=5, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 4) for n in range(1, 5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bacterial", "covid-19", "healthy"]
    folders = [case for label in tmp_path.iterdir() for case in label.iterdir()]
    assert len({case.name for case in folders}) == 4
    for case in folders:
        slices = [pydicom.dcmread(path) for path in sorted(case.iterdir())]
        first = slices[0]
        assert {str(s.SeriesInstanceUID) for s in slices} == {str(first.SeriesInstanceUID)}
        assert len({str(s.SOPInstanceUID) for s in slices}) == len(slices)
        assert first.SOPClassUID == first.file_meta.MediaStorageSOPClassUID == CTImageStorage
        assert (first.PatientID, first.PatientSex in "MF", first.PatientAge[-1]) == (case.name, True, "Y")
        positions = [float(s.ImagePositionPatient[2]) for s in slices]
        assert positions != sorted(positions)
        assert np.diff(sorted(positions)) == pytest.approx(20.0)
        assert all(s.pixel_array.shape == (24, 24) for s in slices)
    series = {str(pydicom.dcmread(next(case.iterdir())).SeriesInstanceUID) for case in folders}
    assert len(series) == 4


def test_the_same_seed_writes_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    make_hospital(tmp_path / "one", MIX, TINY, seed=5)
    make_hospital(tmp_path / "two", MIX, TINY, seed=5, workers=2)
    make_hospital(tmp_path / "other", MIX, TINY, seed=6)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    assert digest(tmp_path / "one") != digest(tmp_path / "other")


def test_no_two_cases_or_hospitals_share_a_chest() -> None:
    chests = [ct_phantom("healthy", TINY, seed).hu.tobytes() for seed in range(5)]
    assert len(set(chests)) == 5


def test_films_are_written_as_grey_png(tmp_path: Path) -> None:
    make_hospital(tmp_path, {"normal": 1, "covid-19": 1}, TINY, 3, "xray", difficulty=Difficulty(0.2))
    films = sorted(tmp_path.rglob("*.png"))
    assert [film.parent.name for film in films] == ["covid-19", "normal"]
    with Image.open(films[0]) as film:
        assert film.mode == "L"
        assert film.width == 24
        assert film.getextrema()[1] > film.getextrema()[0]


def test_a_class_of_the_other_kind_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no xray phantom of class bacterial, healthy"):
        make_hospital(tmp_path / "h", {"healthy": 1, "bacterial": 1}, TINY, 3, "xray")
    assert not (tmp_path / "h").exists()
