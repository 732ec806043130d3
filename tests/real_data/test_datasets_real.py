"""The real sets beside the checkout: opened, filtered, divided, cut, shifted, and painted over.

What is said of marks on films was first judged by eye, film by film; the tests hold on to that.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import simulation.datasets as d
from participant.data.cases import find_cases
from participant.data.readers import read_case
from simulation.datasets.marks import find_marks, paint_over

DATA = Path(__file__).parents[2].parent / "shared/data"
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the real images are not at {DATA}"),
]
CLASSES = ("normal", "pneumonia", "covid-19")


@pytest.mark.parametrize(
    ("name", "counts", "patients", "told"),
    [
        ("xray-3class", {"normal": 200, "pneumonia": 200, "covid-19": 124}, 474, "for testing only"),
        ("xray-2class", {"normal": 300, "pneumonia": 300}, 600, "CC BY 4.0"),
        ("xray-originals", {"normal": 3, "pneumonia": 3, "covid-19": 3}, 9, "for testing only"),
        ("ct-dicom", {"normal": 1, "covid-19": 1, "cap": 1}, 3, "near-copies"),
        ("ct-nifti", {"unlabelled": 2}, 2, "without a diagnosis"),
    ],
)
def test_every_set_opens_with_its_terms(name: str, counts: dict[str, int], patients: int, told: str) -> None:
    found = d.open_dataset(name, DATA)
    assert found.count_by_class() == counts
    assert len(found.patients) == patients
    assert found.excluded == ()
    assert told in d.describe(found)
    assert found == d.open_dataset(DATA / name)


def test_what_the_tables_know_is_read() -> None:
    films = d.open_dataset("xray-3class", DATA)
    assert d.patients([films]).rows[0][:6] == ("xray-3class", "normal", 200, 104, 96, 0)
    assert d.sources(films).rows == (("ieee8023", 0, 0, 124), ("nih-chestxray14", 200, 200, 0))
    assert {row.subtype for row in d.open_dataset("xray-2class", DATA).rows} == {"", "bacteria", "virus"}
    scans = {row.label: (row.sex, row.age) for row in d.open_dataset("ct-dicom", DATA).rows}
    assert scans == {"covid-19": ("M", 39), "cap": ("M", 62), "normal": ("F", 70)}


def test_eight_patients_are_in_two_classes_and_no_film_is_there_twice() -> None:
    found = d.without_duplicates(d.without_laterals(d.open_dataset("xray-3class", DATA)))
    assert found.excluded == ()
    assert d.exclusions(d.without_patients_in_two_classes(found)).rows == (
        ("is of a patient in two classes", "normal", 8, 8),
        ("is of a patient in two classes", "pneumonia", 8, 8),
    )


def test_the_originals_are_found_as_copies_whatever_their_size_and_format() -> None:
    films = d.open_dataset("xray-3class", DATA)
    originals = [replace(row, patient=f"o-{row.patient}") for row in d.open_dataset("xray-originals", DATA).rows]
    both = d.without_duplicates(films.with_rows([*films.rows, *originals]))
    assert {each.row.patient for each in both.excluded} == {row.patient for row in originals}


@pytest.mark.parametrize("rule", [d.Iid(), d.Dirichlet(0.5), d.Skew(), d.ByQuantity(1.5)], ids=str)
def test_five_hospitals_share_no_patient(tmp_path: Path, rule: d.Division) -> None:
    found = d.balanced(d.open_dataset("xray-3class", DATA), 1)
    made = d.hospitals(found, CLASSES, tmp_path, 5, rule, 1)
    cases = [find_cases(each.data, CLASSES).cases for each in made]
    patients = [{case.patient for case in each} for each in cases]
    assert sum(map(len, patients)) == len(set.union(*patients)) == len(found.patients)
    assert sum(map(len, cases)) == 3 * 124
    splits = {(case.patient, case.split) for each in cases for case in each}
    assert len(splits) == len(found.patients)


def test_a_fourth_hospital_has_other_equipment(tmp_path: Path) -> None:
    found = d.capped(d.open_dataset("xray-3class", DATA), 12, 1)
    made = d.hospitals(found, CLASSES, tmp_path, 4, d.Iid(), 1, shifts={"site-4": d.DISTANT_XRAY})
    parts = d.parts_of(made, CLASSES, found.terms)
    brightness = [np.mean([read_case(row.path).voxels.mean() for row in part.rows]) for part in parts]
    widths = [np.mean([read_case(row.path).voxels.shape[1] for row in part.rows]) for part in parts]
    assert brightness[3] < min(brightness[:3]) - 0.05
    assert widths[3] < 0.6 * min(widths[:3])


def test_three_ct_patients_make_slabs_for_three_hospitals(tmp_path: Path) -> None:
    found = d.open_dataset("ct-dicom", DATA)
    slabs = d.cut_into_slabs(found, tmp_path / "slabs", 16)
    assert slabs.count_by_class() == {"normal": 4, "covid-19": 9, "cap": 5}
    assert len(slabs.patients) == 3
    apart = d.cut_into_slabs(found, tmp_path / "slabs", 16, apart=True)
    names = {"normal": "healthy", "cap": "bacterial"}
    classes = ("healthy", "covid-19", "bacterial")
    made = d.hospitals(apart.of_classes(classes, names), classes, tmp_path / "hospitals", 3, d.Iid(), 1)
    cases = [find_cases(each.data, classes).cases for each in made]
    assert [len(each) for each in cases] == [6, 6, 6]
    assert read_case(cases[0][0].path).voxels.shape == (16, 512, 512)


def test_a_real_ct_is_shifted_in_files(tmp_path: Path) -> None:
    found = d.open_dataset("ct-nifti", DATA)
    one = found.with_rows(found.rows[:1])
    moved = d.shifted(one, d.CtShift(offset=40.0), tmp_path, 1)
    before, after = (read_case(each.rows[0].path).voxels for each in (one, moved))
    np.testing.assert_allclose(after, np.clip(before + 40, -1024, 3071), atol=0.5)


# Marks. Boxes are (top, bottom, left, right) in pixels of the film, and hold a mark that the eye sees.

MARKS = {
    "covid/all14238-fig-0001-m-c.jpg": (452, 510, 2, 45),  # a white plate, (C)
    "covid/all14238-fig-0002-m-d.jpg": (394, 456, 2, 50),  # a white plate, (D)
    "covid/auntminnie-a-2020_01_28_23_51_6665_2020_01_28_Vietnam_coronavirus.jpg": (2, 34, 6, 36),  # a grey plate, A
    "covid/auntminnie-d-2020_01_28_23_51_6665_2020_01_28_Vietnam_coronavirus.jpg": (4, 36, 2, 33),  # a grey plate, D
    "covid/1.CXRCTThoraximagesofCOVID-19fromSingapore.pdf-000-fig1b.jpg": (32, 70, 19, 48),  # a black plate, R
    "covid/1.CXRCTThoraximagesofCOVID-19fromSingapore.pdf-002-fig3a.jpg": (15, 56, 19, 48),  # a black plate, R
}


@pytest.mark.parametrize("name", MARKS)
def test_plates_that_the_eye_sees_are_found(name: str) -> None:
    film = read_case(DATA / "xray-3class" / name).voxels
    top, bottom, left, right = MARKS[name]
    mask = find_marks(film)
    assert mask[top:bottom, left:right].mean() > 0.95
    assert mask.mean() < 0.04


def test_the_letter_r_of_the_childrens_films_is_found() -> None:
    rows = [row for row in d.open_dataset("xray-2class", DATA).rows if row.label == "normal"][::6]
    found = [find_marks(read_case(row.path).voxels) for row in rows]
    assert np.mean([mask.any() for mask in found]) > 0.95


def test_the_chest_itself_is_hardly_touched() -> None:
    """The middle of the film holds heart and lungs; marks there are rare, and what is painted over is little."""
    inner, whole = [], []
    for name in ("xray-3class", "xray-2class"):
        for row in d.open_dataset(name, DATA).rows[::9]:
            mask = find_marks(read_case(row.path).voxels)
            height, width = mask.shape
            inner.append(mask[height // 4 : -height // 4, width // 4 : -width // 4].mean())
            whole.append(mask.mean())
    assert np.mean(inner) < 0.001
    assert np.mean(np.array(inner) > 0) < 0.1
    assert np.mean(whole) < 0.004
    assert np.max(whole) < 0.03


def test_letters_drawn_on_real_films_are_found_and_nothing_else_changes() -> None:
    recalls = []
    for row in d.open_dataset("xray-3class", DATA).rows[::12]:
        film = read_case(row.path).voxels
        height, width = film.shape
        stroke = np.zeros(film.shape, np.uint8)
        cv2.putText(stroke, "L", (round(0.9 * width), round(0.2 * height)), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 255, 4)
        if np.median(film[stroke > 0]) > 0.6:
            continue  # white on white is no mark that anybody sees
        marked = np.where(stroke > 0, np.float32(1), film)
        mask = find_marks(marked)
        recalls.append(mask[stroke > 0].mean())
        clean = paint_over(marked, mask)
        assert (clean[mask == 0] == marked[mask == 0]).all()
        near = cv2.dilate(stroke, np.ones((15, 15), np.uint8)) > 0
        assert ((mask > 0) & ~near & (find_marks(film) == 0)).mean() < 0.002
    assert len(recalls) >= 10
    assert np.mean(recalls) > 0.95
