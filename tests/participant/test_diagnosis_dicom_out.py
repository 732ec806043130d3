"""Heat maps as DICOM objects: of the right patient and study, on the right slices, marked for what they are."""

from __future__ import annotations

import io
from pathlib import Path

import agent_pages as visits
import highdicom
import lit_scans as lit
import numpy as np
import pydicom
import pytest
from exports import write_film
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from models.recipe import load_recipe
from participant.diagnosis.case import NOTICE, Case, examine
from participant.diagnosis.dicom_out import captures, layer
from participant.diagnosis.models import given_file, load
from participant.policy import Refused
from simulation.phantoms.files import write_nifti
from simulation.phantoms.geometry import Grid

SPOT = (14, 34, 10)
SAME = ("PatientID", "PatientName", "PatientSex", "StudyInstanceUID", "StudyDate", "AccessionNumber")


def written(dataset: Dataset) -> Dataset:
    """As another program reads it."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    file.seek(0)
    return pydicom.dcmread(file)


def warm(capture: Dataset) -> NDArray[np.bool_]:
    """Where the picture is coloured; the lines below it are not looked at."""
    pixels = capture.pixel_array[: capture.Columns].astype(int)
    return pixels[..., 0] > pixels[..., 2] + 40


def examined(tmp_path: Path, turned: lit.Turned) -> tuple[Case, list[Dataset]]:
    series = lit.write_series(tmp_path / "series", lit.volume(20, SPOT), turned)
    headers = [pydicom.dcmread(file) for file in series.iterdir()]
    case = examine([lit.zipped(series, tmp_path / "scan.zip")], [], [lit.bright_model()])
    return case, sorted(headers, key=lambda header: float(header.ImagePositionPatient[2]))


@pytest.mark.parametrize("turned", lit.TURNED)
def test_a_layer_lies_on_the_frames_of_the_files(tmp_path: Path, turned: lit.Turned) -> None:
    case, headers = examined(tmp_path, turned)
    made = written(layer(case, case.opinions[0], 1))
    assert all(made[name].value == headers[0][name].value for name in SAME)
    assert made.SeriesInstanceUID != headers[0].SeriesInstanceUID
    assert "research use" in made.SeriesDescription
    assert made.ContentDescription == NOTICE[:64]
    seg = highdicom.seg.Segmentation.from_dataset(made)
    frames = seg.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in headers], assert_missing_frames_are_empty=True
    )[..., 0]
    bright = np.stack([header.pixel_array > 1024 for header in headers])
    assert np.abs(lit.centre(frames) - lit.centre(bright)).max() < 1
    assert 0.9 < frames.max() <= 1


@pytest.mark.parametrize("turned", lit.TURNED)
def test_captures_are_pictures_of_the_same_study(tmp_path: Path, turned: lit.Turned) -> None:
    case, headers = examined(tmp_path, turned)
    made = [written(each) for each in captures(case, case.opinions[0], 1, "lung", 0.6)]
    assert len(made) == len(headers)
    assert len({each.SeriesInstanceUID for each in made}) == 1
    assert len({each.SOPInstanceUID for each in made}) == len(headers)
    for each, header in zip(made, headers, strict=True):
        assert all(each[name].value == header[name].value for name in SAME)
        assert each.SourceImageSequence[0].ReferencedSOPInstanceUID == header.SOPInstanceUID
        assert "research use" in each.SeriesDescription
        assert each.DerivationDescription == NOTICE
        assert min(each.Rows, each.Columns) >= 512, "the line below can be read"
    places = [np.nonzero(warm(each)) for each in made]
    coloured = [len(rows) for rows, _ in places]
    assert abs(np.average(np.arange(len(made)), weights=coloured) - SPOT[0]) < 1
    rows, columns = places[SPOT[0]]
    scale = made[0].Columns / lit.SIDE
    assert abs(rows.mean() / scale - SPOT[1]) < 2
    assert abs(columns.mean() / scale - SPOT[2]) < 2


def test_a_film_is_one_picture_and_one_frame(tmp_path: Path) -> None:
    header = pydicom.dcmread(write_film(tmp_path / "film.dcm", 3, PatientName="Doe^Jane"))
    recipe = load_recipe("fl-cxr-resnet18").overridden({"input.size": [64, 64]})
    model = load(given_file(visits.write_model(tmp_path / "m.safetensors", 1, recipe)))
    case = examine([tmp_path / "film.dcm"], [], [model])
    label = case.opinions[0].likeliest
    (capture,) = (written(each) for each in captures(case, case.opinions[0], label, "lung", 0.6))
    made = written(layer(case, case.opinions[0], label))
    for each in (capture, made):
        assert (each.PatientID, each.StudyInstanceUID) == (header.PatientID, header.StudyInstanceUID)
    assert (made.Rows, made.Columns) == (header.Rows, header.Columns)
    assert made.NumberOfFrames == 1


def test_without_a_dicom_source_there_is_nobody_to_refer_to(tmp_path: Path) -> None:
    grid = Grid((20, lit.SIDE, lit.SIDE), lit.SPACING, (0.0, 0.0, 0.0))
    write_nifti(lit.volume(20, SPOT), grid, tmp_path / "scan.nii.gz")
    case = examine([tmp_path / "scan.nii.gz"], [], [lit.bright_model()])
    with pytest.raises(Refused, match="did not come as DICOM"):
        layer(case, case.opinions[0], 1)
    with pytest.raises(Refused, match="did not come as DICOM"):
        next(captures(case, case.opinions[0], 1, "lung", 0.6))
