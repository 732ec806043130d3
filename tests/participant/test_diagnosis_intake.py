"""What somebody drops: scans are found in it, bombs and broken files are refused in words, contours lie in place."""

from __future__ import annotations

import zipfile
from pathlib import Path

import highdicom
import lit_scans as lit
import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from participant.diagnosis.case import examine
from participant.diagnosis.contours import mask_of
from participant.diagnosis.intake import take_in
from participant.diagnosis.limits import Limits
from participant.policy import Refused
from simulation.phantoms.files import write_nifti
from simulation.phantoms.geometry import Grid

SPOT = (12, 30, 14)
SMALL = Limits(upload=10**6, unpacked=10**6, files=40, voxels=10**6)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return lit.write_series(tmp_path / "series", lit.volume(20, SPOT))


@pytest.fixture
def room(tmp_path: Path) -> Path:
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


def refused(files: list[Path], room: Path, limits: Limits = SMALL) -> str:
    with pytest.raises(Refused) as caught:
        take_in(files, room, limits)
    assert str(room) not in caught.value.words, "a visitor is told of no folder here"
    return caught.value.words


def test_what_was_given_stays_where_it_lies(series: Path, room: Path) -> None:
    before = {file.name: file.read_bytes() for file in series.iterdir()}
    take_in(sorted(series.iterdir()), room, SMALL)
    assert {file.name: file.read_bytes() for file in series.iterdir()} == before


def test_a_zip_a_nifti_and_loose_slices_are_the_same_scan(series: Path, tmp_path: Path) -> None:
    grid = Grid((20, lit.SIDE, lit.SIDE), lit.SPACING, (0.0, -90.0, -95.0))
    write_nifti(lit.volume(20, SPOT), grid, tmp_path / "scan.nii.gz")
    found = []
    for number, files in enumerate(
        ([lit.zipped(series, tmp_path / "a.zip")], [tmp_path / "scan.nii.gz"], sorted(series.iterdir()))
    ):
        (tmp_path / f"room-{number}").mkdir()
        scan = take_in(files, tmp_path / f"room-{number}", SMALL)
        found.append(scan.volume.voxels)
        assert (scan.series is None) == (number == 1)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_of_several_series_the_largest_is_looked_at(series: Path, tmp_path: Path, room: Path) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as file:
        for each in series.iterdir():
            file.write(each, f"large/{each.name}")
        for number, each in enumerate(sorted(series.iterdir())[:5]):
            dataset = pydicom.dcmread(each)
            dataset.SeriesInstanceUID = "1.2.3.4"
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if number < 4 else ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            dataset.save_as(tmp_path / "one.dcm")
            file.write(tmp_path / "one.dcm", f"small/{each.name}")
    scan = take_in([tmp_path / "study.zip"], room, SMALL)
    assert len(scan.volume.voxels) == 20
    assert scan.notes == ("left out: localiser", "2 series: looked at the largest, synthetic chest")


def test_archives_that_would_fill_the_disk_are_refused(tmp_path: Path, room: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("scan.nii", b"\0" * 50_000_000)
    assert bomb.stat().st_size < 60_000
    assert refused([bomb], room) == "unpacked, the zip is larger than 0 MB, which is the limit here"
    assert sum(each.stat().st_size for each in room.rglob("*") if each.is_file()) <= SMALL.unpacked


def test_a_lie_about_sizes_does_not_help(tmp_path: Path, room: Path) -> None:
    bomb = tmp_path / "liar.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("scan.nii", b"\0" * 5_000_000)
    content = bomb.read_bytes().replace((5_000_000).to_bytes(4, "little"), (5).to_bytes(4, "little"))
    bomb.write_bytes(content)
    refused([bomb], room)
    assert sum(each.stat().st_size for each in room.rglob("*") if each.is_file()) <= SMALL.unpacked


def test_too_many_files_and_names_that_lead_elsewhere(tmp_path: Path, room: Path, series: Path) -> None:
    many = tmp_path / "many.zip"
    with zipfile.ZipFile(many, "w") as file:
        for number in range(41):
            file.writestr(f"{number}.dcm", b"")
    assert refused([many], room) == "the zip holds 41 files; 40 is the limit"
    slipping = lit.zipped(series, tmp_path / "slip.zip", lambda name: f"../../{name}")
    (tmp_path / "other").mkdir()
    before = set(tmp_path.iterdir())
    assert len(take_in([slipping], tmp_path / "other", SMALL).volume.voxels) == 20
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("scan.zip", b"PK no zip", "the zip cannot be read"),
        ("scan.nii.gz", b"no gzip", "the scan is not a readable NIfTI file"),
        ("scan.png", b"no picture", "the scan is not a readable image"),
        ("scan.dcm", b"no DICOM", "there is no scan in what was given"),
        ("scan", b"nothing", "there is no scan in what was given"),
        ("scan.txt", b"a letter", "there is no scan in what was given"),
    ],
)
def test_broken_files_are_refused_in_words(tmp_path: Path, room: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert refused([tmp_path / name], room).startswith(words)


def test_two_scans_are_one_too_many(tmp_path: Path, room: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)).save(tmp_path / name)
    assert refused([tmp_path / "a.png", tmp_path / "b.png"], room).startswith("there is 2 scans")


def test_pictures_and_volumes_that_would_fill_memory_are_refused_unread(tmp_path: Path, room: Path) -> None:
    Image.new("L", (4000, 4000)).save(tmp_path / "large.png")
    assert refused([tmp_path / "large.png"], room) == "the scan has 16,000,000 voxels; 1,000,000 is the limit here"
    large = np.broadcast_to(np.float32(-1000), (200, 100, 100))
    write_nifti(large, Grid(large.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), tmp_path / "large.nii.gz")
    assert refused([tmp_path / "large.nii.gz"], room).startswith("the scan has 2,000,000 voxels")
    series = lit.write_series(tmp_path / "series", lit.volume(20, SPOT))
    tight = Limits(upload=10**6, unpacked=10**6, files=40, voxels=20 * lit.SIDE**2 - 1)
    assert refused(sorted(series.iterdir()), room, tight).startswith("the scan has 46,080 voxels")


# --- contours


def square(slices: int = 20) -> NDArray[np.bool_]:
    mask = np.zeros((slices, lit.SIDE, lit.SIDE), bool)
    mask[SPOT[0], 20:31, 9:22] = True
    return mask


def found(files: list[Path], contours: list[Path], room: Path) -> NDArray[np.bool_]:
    scan = take_in(files, room, SMALL)
    mask = mask_of([*scan.contours, *contours], scan)
    assert mask is not None
    return mask


def test_a_nifti_mask_lies_in_place(series: Path, tmp_path: Path, room: Path) -> None:
    grid = Grid((20, lit.SIDE, lit.SIDE), lit.SPACING, (0.0, -90.0, -95.0))
    write_nifti(square().astype(np.float32), grid, tmp_path / "mask.nii.gz")
    assert np.array_equal(found(sorted(series.iterdir()), [tmp_path / "mask.nii.gz"], room), square())


@pytest.mark.parametrize("turned", lit.TURNED)
def test_a_dicom_segmentation_in_the_zip_lies_in_place(tmp_path: Path, room: Path, turned: lit.Turned) -> None:
    series = lit.write_series(tmp_path / "series", lit.volume(20, SPOT), turned)
    headers = sorted((pydicom.dcmread(each) for each in series.iterdir()), key=lambda h: h.ImagePositionPatient[2])
    for header in headers:
        header.PatientName = "Doe^Jane"
    stored = lit.as_stored(square(), turned)
    segment = SegmentDescription(
        1, "lesion", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion, SegmentAlgorithmTypeValues.MANUAL
    )
    made = highdicom.seg.Segmentation(
        headers, stored.astype(np.uint8), SegmentationTypeValues.BINARY, [segment], highdicom.UID(), 2, highdicom.UID(),
        1, "maker", "model", "1", "1",
    )  # fmt: skip
    made.save_as(series / "contours.dcm")
    assert np.array_equal(found([lit.zipped(series, tmp_path / "with.zip")], [], room), square())


def test_a_structure_set_lies_in_place(series: Path, tmp_path: Path, room: Path) -> None:
    """Corners at the middle of pixels, as planning systems write them."""
    z = SPOT[0] * lit.SPACING[0]
    columns, rows = (9, 21), (20, 30)
    corners = [(columns[i] * 4 - 95.0, rows[j] * 4 - 90.0, z) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
    save_structures([corners], tmp_path / "contours.dcm")
    assert np.array_equal(found(sorted(series.iterdir()), [tmp_path / "contours.dcm"], room), square())
    hole = [(12 * 4 - 95.0, 23 * 4 - 90.0, z), (18 * 4 - 95.0, 23 * 4 - 90.0, z), (15 * 4 - 95.0, 28 * 4 - 90.0, z)]
    save_structures([corners, hole], tmp_path / "contours.dcm")
    (tmp_path / "again").mkdir()
    mask = found(sorted(series.iterdir()), [tmp_path / "contours.dcm"], tmp_path / "again")
    assert mask[SPOT[0], 20, 9]
    assert not mask[SPOT[0], 25, 15]


def save_structures(contours: list[list[tuple[float, float, float]]], file: Path) -> None:
    structure = Dataset()
    structure.ContourSequence = []
    for corners in contours:
        contour = Dataset()
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = len(corners)
        contour.ContourData = [f"{value:g}" for corner in corners for value in corner]
        structure.ContourSequence.append(contour)
    dataset = Dataset()
    dataset.Modality, dataset.ROIContourSequence = "RTSTRUCT", [structure]
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.3"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(file, enforce_file_format=True)


def test_contours_of_another_scan_are_refused(series: Path, tmp_path: Path, room: Path) -> None:
    grid = Grid((19, lit.SIDE, lit.SIDE), lit.SPACING, (0.0, -90.0, -95.0))
    write_nifti(square(19).astype(np.float32), grid, tmp_path / "mask.nii.gz")
    with pytest.raises(Refused, match="grid of \\(19, 48, 48\\), the scan of \\(20, 48, 48\\)"):
        examine(sorted(series.iterdir()), [tmp_path / "mask.nii.gz"], [])
    (tmp_path / "bad.nii.gz").write_bytes(b"no gzip")
    with pytest.raises(Refused, match="contours 1 cannot be read"):
        found(sorted(series.iterdir()), [tmp_path / "bad.nii.gz"], room)
