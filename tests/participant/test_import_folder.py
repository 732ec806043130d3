"""From a folder as an archive exports it to cases that are found, read and trained on; all else has its reason."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from exports import change, command, made_home, write_film, write_series
from PIL import Image
from pydicom.uid import MPEG4HP41, JPEG2000Lossless, RLELossless, generate_uid

from participant.data.cases import find_cases
from participant.data.importing.collection import Collection, Row
from participant.data.importing.pseudonyms import Pseudonyms
from participant.data.readers import read_case
from participant.settings import Home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return made_home(tmp_path)


def imported(home: Path) -> list[Path]:
    return sorted((home.parent / "data" / "cases").iterdir())


def run(home: Path, *more: Any, code: int = 0) -> str:
    return command("--home", home, "import", "folder", home.parent / "export", *more, code=code)


def test_series_are_found_by_their_uid_wherever_their_files_lie(home: Path, tmp_path: Path) -> None:
    export = tmp_path / "export"
    volumes = []
    for number in (1, 2):
        paths = write_series(export / f"s{number}", number)
        volumes.append(read_case(export / f"s{number}").voxels)
        for index, path in enumerate(paths):  # both series in the same folders, some files without a suffix
            place = export / "disk" / f"IMG{index % 3}"
            place.mkdir(parents=True, exist_ok=True)
            path.rename(place / (f"{number}-{index}" if index % 2 else f"{number}-{index}.IMA"))
        (export / f"s{number}").rmdir()
    (export / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (export / ".hidden").write_text("x")
    assert "imported │ 2 │" in run(home, "--class", "healthy")
    found = [read_case(case.path).voxels for case in find_cases(tmp_path / "data", ("healthy",)).cases]
    assert len(found) == 2
    assert all(any(np.array_equal(one, other) for other in found) for one in volumes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "not axial"),
        ({"ImageOrientationPatient": None}, "not axial"),
        ({"Modality": "MR"}, "modality MR is not read"),
        ({"Modality": None}, "modality not named is not read"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2"}, "secondary capture"),
        ({"NumberOfFrames": 3}, "many frames in one file"),
        ({"BurnedInAnnotation": "YES"}, "text is burnt into its pixels"),
        ({"RescaleSlope": None}, "its slices make no volume"),
        ({"SOPInstanceUID": None}, "no image"),
        ({"PixelData": None}, "damaged file"),
    ],
)
def test_what_is_no_axial_ct_of_a_chest_is_left_out_with_its_reason(
    home: Path, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    change(write_series(tmp_path / "export"), **changes)
    said = run(home, "--report", tmp_path / "report.csv")
    assert "imported │ 0 │" in said
    assert f"left out: {reason}" in said
    assert not imported(home)
    with (tmp_path / "report.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["what"].startswith(str(tmp_path / "export"))
    assert reason in row["reason"]
    assert (tmp_path / "report.csv").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda paths: [path.unlink() for path in paths[3:]], "fewer than 16 slices"),
        (lambda paths: paths[5].write_bytes(paths[5].read_bytes()[:-99]), "damaged file"),
        (lambda paths: paths[5].write_bytes(paths[5].read_bytes()[:700]), "damaged file"),
        (lambda paths: change(paths[:1], ImagePositionPatient=[0, 0, 900]), "its slices make no volume"),
        (lambda paths: change(paths[:1], Rows=8), "its slices make no volume"),
    ],
)
def test_a_series_that_is_not_whole_is_left_out_whole(
    home: Path, tmp_path: Path, spoil: Callable[[list[Path]], None], reason: str
) -> None:
    spoil(write_series(tmp_path / "export" / "bad", 1))
    write_series(tmp_path / "export" / "good", 2)
    said = run(home)
    assert f"left out: {reason}" in said
    assert "imported │ 1 │" in said
    assert len(imported(home)) == 1


def test_a_localiser_among_the_slices_and_files_that_come_twice_do_no_harm(home: Path, tmp_path: Path) -> None:
    paths = write_series(tmp_path / "export", slices=20)
    expected = read_case(tmp_path / "export").voxels
    again = tmp_path / "export" / "again"
    again.mkdir()
    for path in paths[:7]:
        (again / path.name).write_bytes(path.read_bytes())
    scout = pydicom.dcmread(paths[0])
    scout.ImageType, scout.SOPInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], generate_uid()
    scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    scout.save_as(tmp_path / "export" / "scout.dcm")
    assert "imported │ 1 │" in run(home)
    (case,) = imported(home)
    assert len(list(case.iterdir())) == 20
    np.testing.assert_array_equal(read_case(case).voxels, expected)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_slices_stay_compressed_and_read_the_same(home: Path, tmp_path: Path, syntax: str) -> None:
    paths = write_series(tmp_path / "export", size=64)
    expected = read_case(tmp_path / "export").voxels
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
    run(home)
    (case,) = imported(home)
    assert {str(pydicom.dcmread(each).file_meta.TransferSyntaxUID) for each in case.iterdir()} == {syntax}
    np.testing.assert_array_equal(read_case(case).voxels, expected)


def test_compressed_pixels_that_cannot_be_decoded_are_left_out(home: Path, tmp_path: Path) -> None:
    for path in write_series(tmp_path / "export" / "torn", 1, size=64):
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        dataset.PixelData = dataset.PixelData[:40] + bytes(len(dataset.PixelData) - 48) + dataset.PixelData[-8:]
        dataset.save_as(path)
    for path in write_series(tmp_path / "export" / "film", 2, size=64):
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = MPEG4HP41
        dataset.save_as(path)
    said = run(home)
    assert "left out: its pixels cannot be decoded │ 1 │" in said
    assert "MPEG-4 AVC/H.264 High Profile / Level 4.1 cannot be decoded here │ 1 │" in said


def test_films_of_every_format_are_a_case_each(home: Path, tmp_path: Path) -> None:
    export = tmp_path / "export"
    frontal = write_film(export / "study" / "pa.dcm", 1)
    write_film(export / "study" / "lat.dcm", 2, ViewPosition="LL")
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(export / "film.PNG")
    (export / "copy of film.png").write_bytes((export / "film.PNG").read_bytes())
    Image.fromarray(np.full((6, 8), 9, np.uint8)).save(export / "blank.jpg")
    (export / "letter.pdf").write_bytes(b"%PDF-1.7" + bytes(200))
    said = run(home, "--class", "normal")
    assert "imported │ 2 │" in said
    for reason in ("lateral film", "no film that can be read", "no DICOM, NIfTI, PNG or JPEG"):
        assert reason in said
    films = [read_case(case.path).voxels for case in find_cases(tmp_path / "data", ("normal",)).cases]
    assert any(np.array_equal(film, read_case(frontal).voxels) for film in films)
    assert "here already │ 2 │" in run(home)


def test_running_again_adds_what_is_new(home: Path, tmp_path: Path) -> None:
    first = write_series(tmp_path / "export" / "1", 1)
    run(home, "--class", "healthy")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data" / "cases").rglob("*.dcm")}
    write_series(tmp_path / "export" / "2", 2)
    said = run(home, "--class", "healthy")
    assert "imported │ 1 │" in said
    assert "here already │ 1 │" in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(find_cases(tmp_path / "data", ("healthy",)).cases) == 2
    first[0].unlink()
    assert "left out: has other files than when it was imported │ 1" in run(home)


def test_only_what_was_asked_for(home: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "export" / "1", 1, SeriesDescription="Lung 1.0 B70")
    write_series(tmp_path / "export" / "2", 2, SeriesDescription="Mediastinum")
    write_series(tmp_path / "export" / "3", 3, slices=12, SeriesDescription="thick lung")
    assert "description was not asked for │ 1" in run(home, "--description", "*lung*")
    assert "imported │ 1 │" in run(home, "--description", "*lung*", "--min-slices", 12)


def test_links_leave_the_originals_where_they_are(home: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "export" / "1", 1)
    film = write_film(tmp_path / "export" / "film.dcm", 2)
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(tmp_path / "export" / "film.jpeg")
    run(home, "--link", "--class", "healthy")
    cases = find_cases(tmp_path / "data", ("healthy",)).cases
    assert len(cases) == 3
    assert all(each.is_symlink() for case in cases if case.path.is_dir() for each in case.path.iterdir())
    assert not [case.patient for case in cases if case.patient.startswith("P-")]
    voxels = [read_case(case.path).voxels for case in cases]
    assert any(np.array_equal(each, read_case(tmp_path / "export" / "1").voxels) for each in voxels)
    assert any(np.array_equal(each, read_case(film).voxels) for each in voxels)
    assert "here already │ 3 │" in run(home, "--link")


def test_killed_between_noting_a_case_and_moving_it_the_next_import_moves_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "export" / "1", 1)

    def pulled_plug(collection: Collection, row: Row) -> None:
        raise OSError("pulled the plug")

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "_place", pulled_plug)
        assert "pulled the plug" in run(home, code=1)
    assert not imported(home)
    assert "here already │ 1 │" in run(home, "--class", "healthy")
    (case,) = find_cases(tmp_path / "data", ("healthy",)).cases
    read_case(case.path)


def test_a_case_that_was_deleted_stays_away(home: Path, tmp_path: Path) -> None:
    write_film(tmp_path / "export" / "film.dcm")
    run(home)
    imported(home)[0].unlink()
    assert "here already │ 1 │" in run(home, "--class", "healthy")
    assert not imported(home)
    assert not (tmp_path / "data" / "labels.csv").read_text().splitlines()[1:]


def test_folders_with_other_things_or_another_salt_are_refused(home: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "export" / "1", 1)
    assert "holds other things" in run(home, "--into", tmp_path / "export", code=1)
    run(home)
    (home / "import.salt").unlink()
    assert "another import.salt" in run(home, code=1)


def test_one_import_at_a_time(home: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "export" / "1", 1)
    with Collection.opened(tmp_path / "data", Pseudonyms.of_home(Home(home))):
        assert "under way" in run(home, code=1)
    assert "imported │ 1 │" in run(home)
