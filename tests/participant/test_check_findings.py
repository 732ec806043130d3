"""Each finding of check-data, in a set that shows it; a sound set shows none."""

from __future__ import annotations

import shutil
from pathlib import Path

import checked_data as data
import nibabel
import numpy as np
import pytest
from checked_data import FILMS, SCANS, about, chest, found
from PIL import Image

from participant.data.checks import check


@pytest.fixture(scope="module")
def sound_films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data.write_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def sound_scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data.write_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture
def films(sound_films: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound_films, tmp_path / "films"))


@pytest.fixture
def scans(sound_scans: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound_scans, tmp_path / "scans"))


def test_sound_sets_have_no_finding(sound_films: Path, sound_scans: Path) -> None:
    assert found(sound_films) == {}
    assert found(sound_scans, SCANS) == {}
    report = check(sound_films, FILMS)
    assert report.can_train
    assert [(each.label, sum(each.cases.values())) for each in report.counts] == [("normal", 20), ("pneumonia", 20)]


def test_everything_is_found_at_once(films: Path) -> None:
    (films / "normal" / "torn.png").write_bytes(b"torn")
    (films / "normal" / "note.txt").write_text("from the archive")
    (films / "flu").mkdir()
    shutil.copy(films / "normal" / "n00.png", films / "pneumonia" / "again.png")
    kinds = found(films)
    assert set(kinds) == {"listing", "unreadable", "passed-over", "duplicate"}
    assert not check(films, FILMS).can_train


def test_files_that_cannot_be_read_are_named_with_what_to_do(films: Path) -> None:
    (films / "normal" / "torn.png").write_bytes(b"torn")
    data.write_scan(films / "normal" / "scan.nii.gz")
    unreadable = found(films)["unreadable"]
    assert unreadable.severity == "error"
    notes = {note.case: note.note for note in unreadable.cases}
    assert "not a readable image" in notes["normal/torn.png"]
    assert "is a CT, and the recipe takes an X-ray film" in notes["normal/scan.nii.gz"]


def test_faults_of_the_list_are_all_told_and_the_rest_is_still_looked_at(films: Path) -> None:
    shutil.copy(films / "normal" / "n00.png", films / "normal" / "again.png")
    rows = [f"normal/n{each:02}.png,normal" for each in range(20)] + ["normal/again.png,normal", "gone.png,flu"]
    (films / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    kinds = found(films)
    assert [note.note.split(":")[0] for note in kinds["listing"].cases] == ["line 23", "line 23"]
    assert "duplicate" in kinds
    assert found(films / "nowhere").keys() == {"listing", "no-training-cases"}


def test_what_holds_no_air_is_no_chest_ct(scans: Path) -> None:
    """Values that are never negative are refused as they are read; a resampled mask goes a little below 0."""
    mask = np.where(np.mgrid[0:24, 0:24, 0:60][0] > 12, 260, -5).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([14, 14, 4, 1])), scans / "normal" / "outline.nii.gz")
    shifted = data.write_scan(scans / "normal" / "shifted.nii.gz", 900)
    voxels = nibabel.load(shifted)
    nibabel.save(nibabel.Nifti1Image(voxels.get_fdata(dtype=np.float32) + 1000, voxels.affine), shifted)
    finding = found(scans, SCANS)["no-air"]
    assert finding.severity == "error"
    assert about(finding) == {"outline.nii.gz", "shifted.nii.gz"}
    assert {note.note for note in finding.cases} == {
        "its lowest values are about -31",
        "its lowest values are about -94",
    }


def test_patients_in_two_splits_and_classes_are_told_without_their_ids(films: Path) -> None:
    rows = [f"normal/n{each:02}.png,normal,P{each},train" for each in range(20)]
    rows += [f"pneumonia/p{each:02}.png,pneumonia,Q{each},validation" for each in range(19)]
    (films / "labels.csv").write_text("\n".join(["path,label,patient,split", *rows]))
    assert not {"patient-in-two-splits", "patient-in-two-classes"} & found(films).keys()
    rows.append("pneumonia/p19.png,pneumonia,P7,test")
    (films / "labels.csv").write_text("\n".join(["path,label,patient,split", *rows]))
    report = check(films, FILMS)
    kinds = {finding.kind: finding for finding in report.findings}
    assert kinds["patient-in-two-splits"].severity == "error"
    assert about(kinds["patient-in-two-splits"]) == about(kinds["patient-in-two-classes"]) == {"n07.png", "p19.png"}
    assert [note.note for note in kinds["patient-in-two-splits"].cases] == [
        "train, patient 1 of this list", "test, patient 1 of this list",
    ]  # fmt: skip
    assert '"P7"' not in report.to_json()
    assert " P7" not in report.to_json()


def test_one_patient_for_all(films: Path) -> None:
    rows = [f"normal/n{each:02}.png,normal,ANON" for each in range(20)]
    (films / "labels.csv").write_text("\n".join(["path,label,patient", *rows]))
    kinds = found(films)
    assert {"one-patient", "empty-class", "no-validation-cases"} <= kinds.keys()
    assert kinds["one-patient"].severity == "warning"


def test_too_few_cases_of_a_class_or_of_all(tmp_path: Path) -> None:
    films = data.write_films(tmp_path / "few", 3)
    kinds = found(films)
    assert "normal (2), pneumonia (2)" in kinds["few-cases"].what
    rows = [f"{name}/{name[0]}{each:02}.png,{name},test" for name in data.CLASSES for each in range(3)]
    (films / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    assert found(films)["no-training-cases"].severity == "error"


def test_classes_of_very_different_size(films: Path) -> None:
    for each in range(2, 20):
        (films / "pneumonia" / f"p{each:02}.png").unlink()
    for each in range(2):
        data.write_film(films / "normal" / f"more{each}.png", 500 + each)
    assert found(films)["unbalanced"].what == "normal has 22 cases, pneumonia 2"
    (films / "normal" / "more0.png").unlink()
    (films / "normal" / "more1.png").unlink()
    assert "unbalanced" not in found(films), "ten times as many is not more than ten times"


def test_the_same_pixels_in_another_file(films: Path) -> None:
    Image.open(films / "normal" / "n03.png").save(films / "normal" / "copy.png", compress_level=0)
    Image.open(films / "normal" / "n04.png").save(films / "pneumonia" / "other.png", compress_level=0)
    duplicate = found(films)["duplicate"]
    assert about(duplicate) == {"n03.png", "copy.png", "n04.png", "other.png"}
    assert duplicate.severity == "warning"
    assert "1 have two classes" in duplicate.why
    assert (films / "normal" / "n03.png").read_bytes() != (films / "normal" / "copy.png").read_bytes()


def test_a_film_that_was_saved_again_smaller_and_compressed(films: Path) -> None:
    large = data.write_lettered(films / "normal" / "large.png", 50, "")
    Image.open(large).resize((400, 400)).save(films / "normal" / "again.jpg", quality=75)
    kinds = found(films)
    assert about(kinds["near-duplicate"]) == {"large.png", "again.jpg"}
    assert "duplicate" not in kinds


def test_films_that_are_inverted(films: Path) -> None:
    data.write_film(films / "normal" / "negative.png", film=1 - chest(77))
    inverted = found(films)["inverted"]
    assert about(inverted) == {"negative.png"}
    assert inverted.severity == "warning"


def test_monochrome1_is_told_and_turned_back(films: Path) -> None:
    data.write_dicom_film(films / "normal" / "plain.dcm", 70)
    right = chest(71)
    stored = np.uint16(4095 * (1 - right)).tobytes()
    data.write_dicom_film(films / "normal" / "one.dcm", 71, PhotometricInterpretation="MONOCHROME1", PixelData=stored)
    kinds = found(films)
    assert about(kinds["monochrome1"]) == {"one.dcm"}
    assert "inverted" not in kinds
    data.write_dicom_film(films / "normal" / "wrong.dcm", 72, PhotometricInterpretation="MONOCHROME1")
    assert about(found(films)["inverted"]) == {"wrong.dcm"}


def test_coloured_films(films: Path) -> None:
    colour = Image.open(films / "normal" / "n03.png").convert("RGB")
    colour.save(films / "normal" / "n03.png")
    assert "coloured" not in found(films), "three equal channels are no colour"
    colour.paste((170, 120, 110), (40, 40, 60, 50))
    colour.save(films / "normal" / "arrow.png")
    assert about(found(films)["coloured"]) == {"arrow.png"}


@pytest.mark.parametrize(
    ("text", "at", "told"),
    [("JANE MILLER", (60, 40), True), ("12.03.2020", (700, 880), True), ("R", (60, 40), False), ("", (0, 0), False)],
)
def test_text_that_is_burnt_in(films: Path, text: str, at: tuple[int, int], told: bool) -> None:
    data.write_lettered(films / "normal" / "stamped.png", 50, text, at)
    kinds = found(films)
    assert ("burnt-in-text" in kinds) == told
    assert not told or about(kinds["burnt-in-text"]) == {"stamped.png"}


def test_text_that_the_file_tells_of(films: Path) -> None:
    data.write_dicom_film(films / "normal" / "yes.dcm", 70, BurnedInAnnotation="YES")
    data.write_dicom_film(films / "normal" / "no.dcm", 71, BurnedInAnnotation="NO")
    assert about(found(films)["burnt-in-text"]) == {"yes.dcm"}


def test_films_that_are_not_frontal_or_too_small(films: Path) -> None:
    data.write_dicom_film(films / "normal" / "side.dcm", 70, ViewPosition="LL")
    data.write_dicom_film(films / "normal" / "front.dcm", 71, ViewPosition="PA")
    Image.open(films / "normal" / "n00.png").resize((47, 60)).save(films / "normal" / "n00.png")
    kinds = found(films)
    assert about(kinds["view"]) == {"side.dcm"}
    assert about(kinds["small-film"]) == {"n00.png"}


def test_a_class_that_shows_in_the_files(films: Path) -> None:
    for film in (films / "pneumonia").iterdir():
        Image.open(film).save(film.with_suffix(".jpg"), quality=95)
        film.unlink()
    shortcut = found(films)["shortcut"]
    assert "file format" in shortcut.what
    assert [note.note for note in shortcut.cases] == [
        "normal from the other classes: 100%", "pneumonia from the other classes: 100%",
    ]  # fmt: skip


def test_a_film_unlike_the_rest(films: Path) -> None:
    data.write_film(films / "normal" / "wide.png", film=np.tile(chest(5), (1, 3)))
    data.write_film(films / "normal" / "pale.png", film=0.8 + 0.2 * chest(6))
    unlike = found(films)["unlike-the-rest"]
    assert about(unlike) == {"wide.png", "pale.png"}
    assert "width for a height of 1: 3, usually 1" in {n.case: n.note for n in unlike.cases}["normal/wide.png"]


def test_spacing_length_and_slices_of_scans(scans: Path) -> None:
    data.write_scan(scans / "normal" / "thick.nii.gz", 70, slices=20, mm=12.0)
    data.write_scan(scans / "normal" / "short.nii.gz", 71, slices=30)
    data.write_scan(scans / "normal" / "few.nii.gz", 72, slices=7, mm=34.0)
    data.write_scan(scans / "normal" / "thin.nii.gz", 74, slices=200, mm=1.5)
    kinds = found(scans, SCANS)
    assert about(kinds["spacing"]) == {"thick.nii.gz", "few.nii.gz", "thin.nii.gz"}
    assert about(kinds["short-scan"]) == {"short.nii.gz"}
    assert about(kinds["few-slices"]) == {"few.nii.gz"}


def test_orientations_that_differ_or_are_unknown(scans: Path) -> None:
    import nibabel

    image = nibabel.load(scans / "normal" / "n00.nii.gz")
    turned = nibabel.as_closest_canonical(image).slicer[::-1]
    nibabel.save(turned, scans / "normal" / "turned.nii.gz")
    data.write_scan(scans / "normal" / "guessed.nii.gz", 73, codes=False)
    kinds = found(scans, SCANS)
    assert "turned.nii.gz" in about(kinds["orientation"])
    assert about(kinds["unknown-orientation"]) == {"guessed.nii.gz"}
    assert {"n00.nii.gz", "turned.nii.gz"} <= about(kinds["duplicate"]), "the same scan, however it is stored"
