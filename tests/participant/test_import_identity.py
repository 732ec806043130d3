"""Who the patient is stays with the originals: nothing that importing writes or says tells."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from exports import MARK, change, command, made_home, name_the_patient, write_film, write_series
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from participant.data.cases import find_cases
from participant.data.importing.pseudonyms import Pseudonyms
from participant.data.readers import patient_of, read_case
from participant.settings import Home


def written(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def imported(data: Path) -> list[Path]:
    return sorted((data / "cases").iterdir())


def test_a_copied_series_names_nobody_and_reads_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home, paths = made_home(tmp_path), write_series(tmp_path / "export")
    name_the_patient(paths)
    original = pydicom.dcmread(paths[0])
    with caplog.at_level(logging.DEBUG):
        said = command("--home", home, "import", "folder", tmp_path / "export", "--class", "healthy")
    (case,) = imported(tmp_path / "data")
    np.testing.assert_array_equal(read_case(case).voxels, read_case(tmp_path / "export").voxels)
    identifying = [MARK, *(str(original[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID"))]
    for content in (*written(tmp_path / "data").values(), *written(home).values(), said.encode(), caplog.text.encode()):
        assert not [word for word in identifying if word.encode() in content]
    assert not [path for path in written(tmp_path / "data") if MARK in str(path)]
    copy = pydicom.dcmread(next(case.iterdir()))
    assert copy.PatientIdentityRemoved == "YES"
    assert copy.SeriesInstanceUID.is_valid
    assert {str(pydicom.dcmread(each).SeriesInstanceUID) for each in case.iterdir()} == {copy.SeriesInstanceUID}
    assert {path.stat().st_mode & 0o077 for path in written(tmp_path / "data")} == {0}


def test_the_same_patient_is_the_same_hash_in_every_study_and_another_at_another_site(tmp_path: Path) -> None:
    write_series(tmp_path / "export" / "a", 1, PatientID="P-1 ")
    write_series(tmp_path / "export" / "b", 2, PatientID="P-1")
    write_series(tmp_path / "export" / "c", 3)
    (tmp_path / "south").mkdir()
    patients = []
    for site in (tmp_path, tmp_path / "south"):
        command("--home", made_home(site), "import", "folder", tmp_path / "export", "--class", "healthy")
        cases = find_cases(site / "data", ("healthy",)).cases
        assert all(case.patient == patient_of(case.path) for case in cases)
        patients.append([case.patient for case in cases])
    assert [len(set(each)) for each in patients] == [2, 2]
    assert not set(patients[0]) & set(patients[1])


def test_the_salt_is_the_owners_alone_and_never_printed(tmp_path: Path) -> None:
    home = Home(made_home(tmp_path))
    pseudonyms = Pseudonyms.of_home(home)
    assert home.import_salt.stat().st_mode & 0o777 == 0o600
    assert home.import_salt.read_text() not in repr(pseudonyms)
    assert Pseudonyms.of_home(home).of("patient", "x") == pseudonyms.of("patient", "x")
    assert pseudonyms.of("patient", "x") != pseudonyms.of("study", "x")
    assert pseudonyms.of("patient", "  ") == ""
    home.import_salt.write_text("abc")
    write_series(tmp_path / "export")
    assert "import.salt is damaged" in command("--home", home.path, "import", "folder", tmp_path / "export", code=1)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_any_encoding_of_the_header_is_kept(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    home, paths = made_home(tmp_path), write_series(tmp_path / "export")
    expected = read_case(tmp_path / "export").voxels
    for path in paths:
        dataset = pydicom.dcmread(path)
        if not syntax.is_little_endian:
            dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    command("--home", home, "import", "folder", tmp_path / "export")
    (case,) = imported(tmp_path / "data")
    np.testing.assert_array_equal(read_case(case).voxels, expected)


def test_a_films_tables_of_grey_stay_without_their_words(tmp_path: Path) -> None:
    home, film = made_home(tmp_path), write_film(tmp_path / "export" / "film.dcm")
    table = Dataset()
    table.LUTExplanation, table.ModalityLUTType = MARK, "OD"
    table.add_new("LUTDescriptor", "US", [4096, 0, 16])
    table.add_new("LUTData", "US", list(range(4095, -1, -1)))
    change([film], ModalityLUTSequence=[table], RescaleSlope=None, RescaleIntercept=None, WindowCenter=None)
    expected = read_case(film).voxels
    command("--home", home, "import", "folder", tmp_path / "export")
    (case,) = imported(tmp_path / "data")
    np.testing.assert_array_equal(read_case(case).voxels, expected)
    assert MARK.encode() not in case.read_bytes()


@pytest.mark.parametrize("name", ["film.png", "film.jpg", "deep.png", "pale.png"])
def test_image_files_keep_their_brightness_and_lose_their_words(tmp_path: Path, name: str) -> None:
    home, film = made_home(tmp_path), tmp_path / "export" / name
    film.parent.mkdir()
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    if name == "film.jpg":
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, MARK  # turned by a quarter
        Image.fromarray(grey).save(film, exif=exif, comment=MARK)
    else:
        text = PngImagePlugin.PngInfo()
        text.add_text("Patient", MARK)
        image = Image.fromarray(grey.astype(np.uint16) * 16 if name == "deep.png" else grey)
        image = image.convert("P") if name == "pale.png" else image
        image.save(film, pnginfo=text, **({"transparency": 5} if name == "pale.png" else {}))
    command("--home", home, "import", "folder", tmp_path / "export")
    (case,) = imported(tmp_path / "data")
    np.testing.assert_array_equal(read_case(case).voxels, read_case(film).voxels)
    assert MARK.encode() not in case.read_bytes()


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("name", ["chest.nii", "chest.nii.gz"])
def test_nifti_keeps_its_numbers_and_loses_its_words(tmp_path: Path, kind: type, name: str) -> None:
    home, volume = made_home(tmp_path), tmp_path / "export" / name
    volume.parent.mkdir()
    image = kind(np.random.default_rng(0).normal(-700, 200, (5, 6, 7)).astype(np.float32), np.diag([-2.0, 2, 3, 1]))
    image.header["descrip"] = MARK.encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", MARK.encode()))
    image.set_data_dtype(np.int16)
    image.to_filename(volume)
    command("--home", home, "import", "folder", tmp_path / "export")
    (case,) = imported(tmp_path / "data")
    kept, original = nibabel.load(case), nibabel.load(volume)
    np.testing.assert_array_equal(kept.dataobj.get_unscaled(), original.dataobj.get_unscaled())
    np.testing.assert_array_equal(np.asarray(kept.dataobj), np.asarray(original.dataobj))
    np.testing.assert_array_equal(kept.affine, original.affine)
    assert kept.header["descrip"] == b""
    assert not kept.header.extensions
    assert MARK.encode() not in case.read_bytes()
    assert volume.name.encode() not in case.read_bytes()  # gzip writes names down
