"""Every real case beside the checkout reads, and lies as a patient should."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from participant.data.cases import find_cases
from participant.data.preprocessing import CTSettings, prepare_ct
from participant.data.readers import read_case
from participant.data.splits import split_cases

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not beside the checkout"),
]


def lung_of_middle(voxels: np.ndarray) -> np.ndarray:
    """Where a lung may be: air inside the body, in the slice half way up."""
    middle = voxels[int(0.5 * len(voxels))]
    air = (middle < -600) & (middle > -1000)
    height, width = middle.shape
    return air[height // 5 : -height // 4, width // 10 : -width // 10]


@pytest.mark.parametrize(("name", "slices", "spacing"), [("covid", 148, 2.0), ("cap", 84, 4.0), ("normal", 77, 4.0)])
def test_jpeg_lossless_ct_series(name: str, slices: int, spacing: float) -> None:
    (case,) = (
        case for case in find_cases(DATA / "ct-dicom", ("covid", "cap", "normal")).cases if name in case.path.parts
    )
    assert case.patient.startswith("9")
    volume = read_case(case.path)
    assert volume.voxels.shape == (slices, 512, 512)
    assert volume.spacing[0] == pytest.approx(spacing)
    assert -1024 <= volume.voxels.min() < -900
    assert volume.voxels.max() > 1000
    share = lung_of_middle(volume.voxels).mean()
    assert 0.1 < share < 0.8
    # The spine lies behind the middle of the body, and the last slice is the one nearest to the head.
    rows = np.broadcast_to(np.arange(512)[:, None], (512, 512))
    middle = volume.voxels[slices // 2]
    assert rows[middle > 250].mean() > rows[middle > -300].mean()
    top = max((pydicom.dcmread(file) for file in case.path.iterdir()), key=lambda d: float(d.ImagePositionPatient[2]))
    np.testing.assert_array_equal(volume.voxels[-1], top.pixel_array.astype(np.float32) - 1024)
    assert prepare_ct(volume, CTSettings()).shape == (slices, 128, 128)


@pytest.mark.parametrize("name", ["id001", "id002"])
def test_nifti_volumes_and_their_masks(name: str) -> None:
    stored = nibabel.load(DATA / "ct-nifti" / f"{name}-128x128x64.nii.gz")
    assert float(np.asarray(stored.dataobj).min()) < -3000  # padding and overshoot, which the reader takes away
    volume = read_case(DATA / "ct-nifti" / f"{name}-128x128x64.nii.gz")
    assert volume.voxels.shape == (64, 128, 128)
    assert volume.voxels.min() == -1024
    mask = nibabel.as_closest_canonical(nibabel.load(DATA / "ct-nifti" / f"{name}-128x128x64-msk.nii.gz"))
    lungs = np.asarray(mask.dataobj)[::-1, ::-1].transpose(2, 1, 0) > 127  # RAS+ to (head, back, left)
    assert volume.voxels[lungs].mean() < -700 < volume.voxels[~lungs].mean()


def test_the_three_class_films_by_their_table() -> None:
    found = find_cases(DATA / "xray-3class", ("normal", "pneumonia", "covid"))
    assert found.count_by_class() == (200, 200, 124)
    for case in found.cases:
        film = read_case(case.path).voxels
        assert film.ndim == 2
        assert 0 <= film.min() < film.max() <= 1
    split = split_cases(found.cases, "site-1")
    homes = [{case.patient for case in split[name]} for name in ("train", "validation", "test")]
    assert sum(len(home) for home in homes) == len(set.union(*homes))
    assert sum(len(cases) for cases in split.values()) == 524


def test_the_two_class_films_by_their_table() -> None:
    found = find_cases(DATA / "xray-2class", ("normal", "pneumonia"))
    assert found.count_by_class() == (300, 300)
    for case in found.cases:
        assert read_case(case.path).voxels.shape == (224, 224)


def test_originals_in_colour_and_of_any_size() -> None:
    found = find_cases(DATA / "xray-originals", ("normal", "pneumonia", "covid"))
    assert found.count_by_class() == (3, 3, 3)
    for case in found.cases:
        film = read_case(case.path).voxels
        assert min(film.shape) > 300
        assert film.max() - film.min() > 0.5
