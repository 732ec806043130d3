"""Cohorts: a set divided among hospitals, cases withheld, films without marks, grades of severity."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_experiment import CLASSES, FILMS, rows_of

from participant.data.errors import DataError
from simulation.datasets import CtShift
from simulation.experiments.cohort import PANEL, SHEET, Cohort, Sources, settle
from simulation.experiments.severities import GRADES, LIMITS, Severities, grade_of, severity_dataset
from simulation.phantoms import SITES, Difficulty, ct_phantom


def test_a_cohort_is_divided_with_one_test_set_for_all_divisions(tmp_path: Path) -> None:
    cohort = Cohort(FILMS, 2, names={"covid-19": "pneumonia"})
    tests, sources = [], Sources(None, tmp_path / "drawn")
    for sites in (2, 4):
        folder = tmp_path / str(sites)
        hospitals = settle(replace(cohort, sites=sites), CLASSES, sources, folder, seed=3)
        rows = [row for hospital in hospitals for row in rows_of(hospital.data)]
        assert len(rows) == 5 * 3 * 3
        tests.append({row["patient"] for row in rows if row["split"] == "test"})
        assert json.loads((folder / SHEET).read_text())["tables"][0]["title"] == "Data distribution"
    assert tests[0] == tests[1]


def test_a_hospital_without_a_class_and_one_that_only_tests_it(tmp_path: Path) -> None:
    cohort = Cohort(FILMS, 3, "source", names={"covid-19": "pneumonia"})
    cohort = replace(cohort, absent={"site-2": ["normal"]}, untrained={"site-3": ["pneumonia"]})
    hospitals = settle(cohort, CLASSES, Sources(None, tmp_path / "drawn"), tmp_path / "hospitals", seed=1)
    first, second, third = (rows_of(hospital.data) for hospital in hospitals)
    assert {row["label"] for row in first} == set(CLASSES)
    assert {row["label"] for row in second} == {"pneumonia"}
    assert {row["split"] for row in third if row["label"] == "pneumonia"} == {"test"}
    assert {"train", "test"} <= {row["split"] for row in third if row["label"] == "normal"}


def test_a_cohort_of_nothing_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        settle(Cohort("xray-3class"), CLASSES, Sources(tmp_path / "nowhere", tmp_path), tmp_path / "hospitals", seed=1)


def test_marks_are_painted_over_where_a_cohort_wants_it(tmp_path: Path) -> None:
    folder = tmp_path / "sets" / "films" / "normal"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(4):
        film = (100 + 20 * rng.random((256, 256))).astype(np.uint8)
        Image.fromarray(film).save(folder / f"P{number}.png")
        film[14:34, 14:20] = film[28:34, 14:30] = 255  # an L in the corner
        Image.fromarray(film).save(folder / f"Q{number}.png")
    sources = Sources(tmp_path / "sets", tmp_path / "drawn")
    plain, clean = sources.open("films"), sources.open("films", inpaint=True)
    changed = {row.patient for row in clean.rows} & {
        after.patient for before, after in zip(plain.rows, clean.rows, strict=True) if before.path != after.path
    }
    assert changed == {f"Q{number}" for number in range(4)}
    assert (tmp_path / "drawn" / PANEL).exists()


def test_shifts_are_for_their_modality(tmp_path: Path) -> None:
    cohort = Cohort(FILMS, 2, names={"covid-19": "pneumonia"}, shifts={"site-1": CtShift(offset=20)})
    with pytest.raises(ValueError, match="modality"):
        settle(cohort, CLASSES, Sources(None, tmp_path / "drawn"), tmp_path / "hospitals", seed=1)


def test_grades_of_severity_are_shares_of_the_lungs(tmp_path: Path) -> None:
    dataset = severity_dataset(tmp_path, Severities(cases=2))
    assert dataset.count_by_class() == dict.fromkeys(GRADES, 2 * len(SITES))
    assert severity_dataset(tmp_path, Severities(cases=2)).rows == dataset.rows
    assert all(row.sex and row.age for row in dataset.rows), "for the table of patients"
    phantom = ct_phantom("covid-19", SITES[0], 7, Difficulty(0.5))
    share = phantom.lesions.sum() / phantom.lungs.sum()
    assert grade_of(phantom) == GRADES[sum(share >= limit for limit in LIMITS)]
