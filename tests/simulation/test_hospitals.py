"""Hospitals of phantoms, and given cases divided among hospitals."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from participant.data.cases import find_cases
from participant.data.errors import DataProblems
from participant.data.splits import split_cases
from simulation.hospitals import Population, apportioned, phantom_hospitals, split_hospitals
from simulation.phantoms import CT_CLASSES, XRAY_CLASSES

TINY = Population(train=4, validation=1, test=2)


@pytest.mark.parametrize(
    ("shares", "total", "expected"),
    [((0.4, 0.5, 0.05, 0.05), 32, [13, 16, 2, 1]), ((1, 1, 1), 10, [4, 3, 3]), ((0.5, 0.5), 0, [0, 0])],
)
def test_cases_are_apportioned_in_whole_numbers(shares: tuple[float, ...], total: int, expected: list[int]) -> None:
    assert apportioned(shares, total) == expected
    assert sum(expected) == total


@pytest.mark.parametrize("modality", ["ct", "xray"])
def test_phantom_hospitals_have_their_splits_and_mixes(tmp_path: Path, modality: str) -> None:
    seen: list[tuple[int, int]] = []
    hospitals = phantom_hospitals(tmp_path, 2, 7, modality, TINY, lambda *step: seen.append(step))
    classes = CT_CLASSES if modality == "ct" else XRAY_CLASSES
    assert [hospital.name for hospital in hospitals] == ["site-1", "site-2"]
    assert seen == [(done, 14) for done in range(1, 15)]
    mixes = []
    for hospital in hospitals:
        found = find_cases(hospital.data, classes)
        split = split_cases(found.cases, "any")
        assert {name: len(cases) for name, cases in split.items()} == {"train": 4, "validation": 1, "test": 2}
        mixes.append(found.count_by_class())
    assert mixes[0] != mixes[1]


def films(root: Path, counts: dict[str, int], per_patient: int = 2) -> Path:
    """A table of tiny films, `counts` patients of each class with several films each."""
    rows = [("file", "label", "patient_id")]
    for label, patients in counts.items():
        (root / label).mkdir(parents=True)
        for patient in range(patients):
            for number in range(per_patient):
                name = f"{label}/{patient}-{number}.png"
                pixels = np.random.default_rng(patient).integers(0, 255, (8, 8), np.uint8)
                Image.fromarray(pixels).save(root / name)
                rows.append((name, label, f"{label}-{patient}"))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def test_given_cases_are_divided_by_patient_with_different_mixes(tmp_path: Path) -> None:
    classes = ("a", "b", "c")
    data = films(tmp_path / "data", {"a": 10, "b": 10, "c": 10})
    hospitals = split_hospitals(data, classes, tmp_path / "hospitals", sites=3, seed=1)
    found = [find_cases(hospital.data, classes) for hospital in hospitals]
    patients = [{case.patient for case in each.cases} for each in found]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 30
    assert sum(len(each.cases) for each in found) == 60
    assert [int(np.argmax(each.count_by_class())) for each in found] == [0, 1, 2]
    assert all(min(each.count_by_class()) > 0 for each in found)


def test_the_seed_decides_who_goes_where(tmp_path: Path) -> None:
    data = films(tmp_path / "data", {"a": 6, "b": 6})

    def where(folder: str, seed: int) -> list[list[str]]:
        made = split_hospitals(data, ("a", "b"), tmp_path / folder, 2, seed)
        return [sorted(case.patient for case in find_cases(h.data, ("a", "b")).cases) for h in made]

    assert where("first", 1) == where("again", 1)
    assert where("first", 1) != where("other", 2)


def test_at_most_so_many_patients_of_a_class(tmp_path: Path) -> None:
    data = films(tmp_path / "data", {"a": 6, "b": 3})
    hospitals = split_hospitals(data, ("a", "b"), tmp_path / "hospitals", 2, 1, limit=4)
    cases = [case for hospital in hospitals for case in find_cases(hospital.data, ("a", "b")).cases]
    assert Counter(case.label for case in cases) == {0: 8, 1: 6}


def test_data_that_are_not_there_are_told_of(tmp_path: Path) -> None:
    with pytest.raises(DataProblems, match="does not exist"):
        split_hospitals(tmp_path / "nowhere", ("a", "b"), tmp_path / "hospitals", 2, 1)
