"""Every way of storing one chest reads as the same chest; every way of breaking it is named."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import DigitalXRayImageStorageForPresentation, JPEG2000Lossless, RLELossless, generate_uid

from participant.data.errors import UnreadableCase
from participant.data.readers import patient_of, read_case
from simulation.phantoms import Phantom, Scanner, ct_phantom
from simulation.phantoms.files import PatientLabel, write_dicom_series, write_nifti

SCANNER = Scanner("reader-test", matrix=32, slice_thickness=18.0, noise=30.0)
LABEL = PatientLabel("P-7", "F", 61)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return ct_phantom("bacterial", SCANNER, seed=5)


@pytest.fixture
def series(phantom: Phantom, tmp_path: Path) -> Path:
    folder = tmp_path / "series"
    write_dicom_series(phantom.hu, phantom.grid, folder, LABEL, "reader-test", seed=3)
    return folder


def by_position(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"), key=lambda p: float(pydicom.dcmread(p).ImagePositionPatient[2]))


def change(path: Path, **attributes: object) -> None:
    dataset = pydicom.dcmread(path)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def refused(path: Path) -> UnreadableCase:
    with pytest.raises(UnreadableCase) as caught:
        read_case(path)
    assert caught.value.fix
    assert str(caught.value.path) in str(caught.value)
    return caught.value


def test_a_series_is_ordered_by_position_though_its_names_are_not(phantom: Phantom, series: Path) -> None:
    names = [path.name for path in by_position(series)]
    assert names != sorted(names)
    volume = read_case(series)
    np.testing.assert_array_equal(volume.voxels, np.rint(phantom.hu))
    assert volume.voxels.dtype == np.float32
    assert volume.spacing == pytest.approx(phantom.grid.spacing)
    assert (volume.modality, volume.stored_axes, volume.source) == ("ct", "LPS", series)
    assert patient_of(series) == "P-7"


def test_dicom_and_nifti_of_one_chest_read_the_same(phantom: Phantom, series: Path, tmp_path: Path) -> None:
    write_nifti(phantom.hu, phantom.grid, tmp_path / "chest.nii.gz")
    nifti = read_case(tmp_path / "chest.nii.gz")
    dicom = read_case(series)
    np.testing.assert_array_equal(nifti.voxels, dicom.voxels)
    assert nifti.spacing == pytest.approx(dicom.spacing)
    assert nifti.stored_axes == "LAS"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(), (0,), (1, 2)])
def test_nifti_axes_may_be_stored_in_any_direction(
    phantom: Phantom, tmp_path: Path, order: tuple[int, int, int], flips: tuple[int, ...]
) -> None:
    write_nifti(phantom.hu, phantom.grid, tmp_path / "chest.nii")
    image = nibabel.load(tmp_path / "chest.nii")
    orientation = np.array([[axis, -1 if axis in flips else 1] for axis in order])
    image.as_reoriented(orientation).to_filename(tmp_path / "turned.nii")
    turned = read_case(tmp_path / "turned.nii")
    np.testing.assert_array_equal(turned.voxels, np.rint(phantom.hu))
    assert turned.spacing == pytest.approx(phantom.grid.spacing, rel=1e-5)


def test_a_series_scanned_face_down_and_feet_first_is_turned_back(phantom: Phantom, series: Path) -> None:
    for path in by_position(series):
        dataset = pydicom.dcmread(path)
        x, y, z = (float(v) for v in dataset.ImagePositionPatient)
        far = (SCANNER.matrix - 1) * float(dataset.PixelSpacing[0])
        dataset.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        dataset.ImagePositionPatient = [x + far, y + far, z]
        dataset.PixelData = np.ascontiguousarray(dataset.pixel_array[::-1, ::-1]).tobytes()
        dataset.save_as(path)
    volume = read_case(series)
    np.testing.assert_array_equal(volume.voxels, np.rint(phantom.hu))
    assert volume.stored_axes == "RAS"


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_slices_read_the_same(phantom: Phantom, series: Path, syntax: str) -> None:
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_case(series).voxels, np.rint(phantom.hu))


def test_localisers_and_files_that_are_not_dicom_are_left_out(phantom: Phantom, series: Path) -> None:
    scout = pydicom.dcmread(by_position(series)[0])
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.SeriesInstanceUID = generate_uid()
    scout.save_as(series / "scout.dcm")
    (series / "note.txt").write_text("seen by Dr. B.")
    (series / "DICOMDIR").write_bytes(b"\0" * 200)
    np.testing.assert_array_equal(read_case(series).voxels, np.rint(phantom.hu))


def test_headers_that_break_rules_of_no_matter_here_are_read_in_silence(series: Path) -> None:
    identifier = str(pydicom.dcmread(by_position(series)[0]).SeriesInstanceUID)
    for path in series.iterdir():
        path.write_bytes(path.read_bytes().replace(identifier.encode(), b"x" + identifier[1:].encode()))
    assert read_case(series).modality == "ct"  # a warning would fail this test


def test_slope_padding_and_overshoot(phantom: Phantom, series: Path, tmp_path: Path) -> None:
    for path in series.iterdir():
        change(path, RescaleSlope="2", RescaleIntercept="-3024")
    expected = np.clip((np.rint(phantom.hu) + 1024) * 2 - 3024, -1024, 3071)
    np.testing.assert_array_equal(read_case(series).voxels, expected)
    stored = np.random.default_rng(0).normal(-800, 2000, (5, 6, 7)).astype(np.float32)
    nibabel.Nifti1Image(stored, np.eye(4)).to_filename(tmp_path / "wild.nii")
    voxels = read_case(tmp_path / "wild.nii").voxels
    assert (voxels.min(), voxels.max()) == (-1024, 3071)


@pytest.mark.parametrize("kept", [0, 100, 200, 700, 1500])
def test_a_truncated_slice_is_named(series: Path, kept: int) -> None:
    victim = by_position(series)[4]
    victim.write_bytes(victim.read_bytes()[:kept])
    assert refused(series).path == victim


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 2000), written=st.binary(min_size=1, max_size=12))
def test_any_damage_to_a_slice_is_read_or_named(series: Path, at: int, written: bytes) -> None:
    victim = min(series.iterdir())
    whole = victim.read_bytes()
    victim.write_bytes(whole[:at] + written + whole[at + len(written) :])
    # Nothing but this error may come out, whatever was damaged.
    with contextlib.suppress(UnreadableCase):
        assert read_case(series).voxels.shape[1:] == (32, 32)
        patient_of(series)
    victim.write_bytes(whole)


def test_mixed_series_missing_and_repeated_slices(series: Path) -> None:
    ordered = by_position(series)
    lost = ordered[5].read_bytes()
    ordered[5].unlink()
    problem = refused(series)
    assert ordered[4].name in problem.what
    assert "36.0 mm" in problem.what
    ordered[5].write_bytes(lost)
    (series / "again.dcm").write_bytes(lost)
    assert "one position" in refused(series).what
    change(series / "again.dcm", SeriesInstanceUID=generate_uid())
    assert "mixes 2 series" in refused(series).what


def test_slices_that_cannot_be_one_volume(series: Path) -> None:
    victim = by_position(series)[2]
    original = victim.read_bytes()
    for attributes, what in (
        ({"Rows": 0}, "size zero"),
        ({"Rows": 16}, "image sizes"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "orientation"),
        ({"RescaleIntercept": None}, "RescaleIntercept"),
        ({"NumberOfFrames": 4}, "many frames"),
        ({"PixelSpacing": [0.0, 1.0]}, "impossible"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "impossible"),
    ):
        change(victim, **attributes)
        assert what in refused(series).what
        victim.write_bytes(original)
    read_case(series)


def test_folders_without_a_series(series: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no DICOM slice" in refused(tmp_path / "empty").what
    slices = by_position(series)
    assert "one slice of a CT" in refused(slices[0]).what
    for path in slices[1:]:
        path.unlink()
    assert "single CT slice" in refused(series).what


def test_nifti_that_is_no_volume_in_hu(tmp_path: Path) -> None:
    path = tmp_path / "chest.nii.gz"
    stored = np.full((4, 5, 6), -500.0, np.float32)
    stored[1, 2, 3] = np.nan
    cases = [
        (stored, "1 values that are not numbers"),
        (np.ones((4, 5, 6), np.float32), "mask"),
        (np.full((4, 5, 1), -5.0, np.float32), "single slice"),
        (np.full((4, 5, 6, 2), -5.0, np.float32), "not one volume"),
    ]
    for array, what in cases:
        nibabel.Nifti1Image(array, np.eye(4)).to_filename(path)
        assert what in refused(path).what
    path.write_bytes(path.read_bytes()[:60])
    assert "not a readable NIfTI" in refused(path).what


def test_nifti_without_directions(tmp_path: Path) -> None:
    path = tmp_path / "chest.nii"
    nibabel.Nifti1Image(np.full((4, 5, 6), -5.0, np.float32), np.eye(4)).to_filename(path)
    data = bytearray(path.read_bytes())
    data[280:328] = bytes(48)  # the three rows of the affine
    path.write_bytes(data)
    assert "degenerate" in refused(path).what


def ramp(levels: int) -> np.ndarray:
    return np.linspace(0, levels - 1, 48).round().reshape(6, 8)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_films_of_any_colour_mode_read_as_grey(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(ramp(256).astype(np.uint8))
    grey.convert(mode).save(tmp_path / "film.png")
    volume = read_case(tmp_path / "film.png")
    np.testing.assert_allclose(volume.voxels, ramp(256) / 255, atol=0.5 / 255 if mode != "P" else 0.02)
    assert (volume.modality, volume.spacing, volume.voxels.shape) == ("xray", None, (6, 8))
    assert patient_of(tmp_path / "film.png") == "film"


def test_sixteen_bits_transparency_and_turned_cameras(tmp_path: Path) -> None:
    Image.fromarray((ramp(4096) + 100).astype(np.uint16)).save(tmp_path / "deep.png")
    np.testing.assert_allclose(read_case(tmp_path / "deep.png").voxels, ramp(4096) / 4095, atol=1e-6)
    cut = np.full((6, 8, 4), 200, np.uint8)
    cut[:, :3, 3] = 0
    cut[:, 3:, 3] = 255
    Image.fromarray(cut).save(tmp_path / "cut.png")
    assert read_case(tmp_path / "cut.png").voxels[:, :3].max() == 0
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ramp(256).astype(np.uint8)).save(tmp_path / "turned.jpg", exif=exif, quality=100)
    assert read_case(tmp_path / "turned.jpg").voxels.shape == (8, 6)


def write_film(path: Path, template: Path, **attributes: object) -> None:
    film = pydicom.dcmread(template)
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    film.Modality, film.Rows, film.Columns = "DX", 6, 8
    film.PixelData = ramp(4096).astype("<u2").tobytes()
    for name in ("RescaleIntercept", "RescaleSlope", "RescaleType", "WindowCenter", "WindowWidth"):
        del film[name]
    for name, value in attributes.items():
        setattr(film, name, value)
    film.save_as(path)


def test_dicom_films_are_bright_where_dense_whatever_their_photometry(series: Path, tmp_path: Path) -> None:
    template = by_position(series)[0]
    write_film(tmp_path / "two.dcm", template, PhotometricInterpretation="MONOCHROME2")
    write_film(tmp_path / "one.dcm", template, PhotometricInterpretation="MONOCHROME1")
    upright, inverted = read_case(tmp_path / "two.dcm"), read_case(tmp_path / "one.dcm")
    np.testing.assert_allclose(upright.voxels, ramp(4096) / 4095, atol=1e-6)
    np.testing.assert_allclose(inverted.voxels, 1 - upright.voxels, atol=1e-6)
    assert upright.modality == "xray"
    write_film(tmp_path / "windowed.dcm", template, WindowCenter="1000", WindowWidth="500")
    windowed = read_case(tmp_path / "windowed.dcm").voxels
    assert (windowed[0, :8].max(), windowed[-1].min()) == (0, 1)
    (tmp_path / "folder").mkdir()
    write_film(tmp_path / "folder" / "film.dcm", template)
    np.testing.assert_array_equal(read_case(tmp_path / "folder").voxels, upright.voxels)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 1700), written=st.binary(min_size=1, max_size=12))
def test_any_damage_to_a_dicom_film_is_read_or_named(series: Path, tmp_path: Path, at: int, written: bytes) -> None:
    write_film(tmp_path / "film.dcm", by_position(series)[0], WindowCenter="1000", WindowWidth="500")
    whole = (tmp_path / "film.dcm").read_bytes()
    (tmp_path / "film.dcm").write_bytes(whole[:at] + written + whole[at + len(written) :])
    with contextlib.suppress(UnreadableCase):
        voxels = read_case(tmp_path / "film.dcm").voxels
        assert 0 <= voxels.min() < voxels.max() <= 1


def test_films_that_cannot_be_read(tmp_path: Path, series: Path) -> None:
    Image.new("L", (8, 6), 40).save(tmp_path / "blank.png")
    assert "blank" in refused(tmp_path / "blank.png").what
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0torn")
    assert "not a readable image" in refused(tmp_path / "torn.jpg").what
    (tmp_path / "case.tiff").write_bytes(b"II*")
    assert "format" in refused(tmp_path / "case.tiff").what
    assert "does not exist" in refused(tmp_path / "gone.png").what
    write_film(tmp_path / "flat.dcm", by_position(series)[0], PixelData=b"\1\0" * 48)
    assert "blank" in refused(tmp_path / "flat.dcm").what
