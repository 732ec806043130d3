"""Training, validation and test cases: by patient, class by class, as a site's agent would do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from participant.data.cases import Case, Split, patients_in_two_splits
from participant.data.errors import DataProblems
from participant.data.splits import SHARES, split_cases
from simulation.datasets.dataset import Dataset, case_of


def with_splits(dataset: Dataset, salt: str, shares: Mapping[Split, float] = SHARES) -> Dataset:
    """The set with a split for every row; `salt` decides who goes where.

    Rows that have a split keep it. A published set of training and test cases has nobody to stop a training by:
    validation cases are then taken from the training ones, in the proportion that `shares` give the two.

    Raises:
        DataProblems: a patient is in two splits.
        ValueError: the shares do not add up to 1.
    """
    cases = [case_of(row, dataset.classes) for row in dataset.rows]
    problems = patients_in_two_splits(cases)
    if problems:
        raise DataProblems(dataset.rows[0].path.parent, problems)
    if {case.split for case in cases} == {"train", "test"}:
        placed = [case for case in cases if case.split == "test"] + _halved(cases, salt, shares)
    else:
        placed = _divided(cases, salt, shares)
    split = {case.path: case.split for case in placed}
    return dataset.with_rows(replace(row, split=split[row.path]) for row in dataset.rows)


def _halved(cases: list[Case], salt: str, shares: Mapping[Split, float]) -> list[Case]:
    """The training cases, part of them now for validation."""
    both = shares["train"] + shares["validation"]
    training = [replace(case, split=None) for case in cases if case.split == "train"]
    return _divided(training, salt, {"train": shares["train"] / both, "validation": shares["validation"] / both})


def _divided(cases: list[Case], salt: str, shares: Mapping[Split, float]) -> list[Case]:
    """Each case with its split."""
    by_split: dict[Path, Split] = {
        case.path: split for split, found in split_cases(cases, salt, shares).items() for case in found
    }
    return [replace(case, split=by_split[case.path]) for case in cases]
