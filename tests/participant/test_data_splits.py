"""No patient in two splits, whatever the cases; and the classes in their shares."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from participant.data.cases import SPLITS, Case
from participant.data.errors import DataProblems
from participant.data.splits import fold_cases, split_cases

patients = st.sampled_from([f"p{i}" for i in range(12)])
cases_of = st.lists(st.tuples(st.integers(0, 3), patients), max_size=60)


def build(pairs: list[tuple[int, str]]) -> list[Case]:
    return [Case(Path(f"{i:03d}.png"), label, patient) for i, (label, patient) in enumerate(pairs)]


@given(cases_of, st.text(max_size=4), st.randoms(use_true_random=False))
def test_a_patient_is_in_one_split_and_every_case_in_one(pairs, salt, random) -> None:
    cases = build(pairs)
    split = split_cases(cases, salt)
    homes: dict[str, set[str]] = {}
    for name in SPLITS:
        for case in split[name]:
            homes.setdefault(case.patient, set()).add(name)
    assert all(len(home) == 1 for home in homes.values())
    assert sorted((c for name in SPLITS for c in split[name]), key=lambda c: c.path) == cases
    shuffled = list(cases)
    random.shuffle(shuffled)
    assert split_cases(shuffled, salt) == split


@given(cases_of, st.dictionaries(patients, st.sampled_from(SPLITS)), st.randoms(use_true_random=False))
def test_splits_of_a_table_are_kept(pairs, fixed, random) -> None:
    cases = [
        Case(case.path, case.label, case.patient, fixed.get(case.patient) if random.random() < 0.5 else None)
        for case in build(pairs)
    ]
    named = {case.patient: case.split for case in cases if case.split}
    split = split_cases(cases, "salt")
    for name in SPLITS:
        assert all(named.get(case.patient, name) == name for case in split[name])


def test_each_class_is_divided_in_its_shares() -> None:
    counts = {0: 50, 1: 30, 2: 10, 3: 4}
    cases = build([(label, f"{label}-{i}") for label, n in counts.items() for i in range(n)])
    split = split_cases(cases, "site-1")
    per_class = {name: Counter(case.label for case in split[name]) for name in SPLITS}
    for label, n in counts.items():
        for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
            assert abs(per_class[name][label] - share * n) <= 1
        assert per_class["test"][label] >= 1
    assert split_cases(cases, "site-2") != split


def test_fixed_cases_count_towards_the_shares() -> None:
    cases = [Case(Path(f"{i}.png"), 0, f"p{i}", "test" if i < 5 else None) for i in range(20)]
    split = split_cases(cases, "x", {"train": 0.75, "test": 0.25})
    assert (len(split["train"]), len(split["validation"]), len(split["test"])) == (15, 0, 5)


def test_a_patient_fixed_in_two_splits_is_reported() -> None:
    cases = [Case(Path("a.png"), 0, "eve", "train"), Case(Path("b.png"), 1, "eve", "test")]
    with pytest.raises(DataProblems, match="patient eve is in the splits test and train"):
        split_cases(cases, "x")


@pytest.mark.parametrize("shares", [{"train": 0.5}, {"train": 1.2, "test": -0.2}, {"train": 0.5, "exam": 0.5}])
def test_shares_that_are_none(shares: dict) -> None:
    with pytest.raises(ValueError, match="shares must name splits"):
        split_cases([], "x", shares)


@given(cases_of, st.integers(2, 5), st.randoms(use_true_random=False))
def test_folds_partition_the_patients_that_are_not_for_testing(pairs, folds, random) -> None:
    cases = build(pairs)
    parts = [fold_cases(cases, "salt", folds, fold) for fold in range(folds)]
    test = split_cases(cases, "salt")["test"]
    validated = [case for part in parts for case in part["validation"]]
    assert sorted([*validated, *test], key=lambda c: c.path) == cases
    for part in parts:
        assert part["test"] == test
        assert sorted([*part["train"], *part["validation"], *test], key=lambda c: c.path) == cases
        homes = [{case.patient for case in part[name]} for name in SPLITS]
        assert sum(map(len, homes)) == len(set().union(*homes))
    shuffled = list(cases)
    random.shuffle(shuffled)
    assert [fold_cases(shuffled, "salt", folds, fold) for fold in range(folds)] == parts


def test_each_class_is_divided_evenly_among_the_folds() -> None:
    counts = {0: 50, 1: 31, 2: 12, 3: 7}
    cases = build([(label, f"{label}-{i}") for label, n in counts.items() for i in range(n)])
    parts = [fold_cases(cases, "site-1", 5, fold)["validation"] for fold in range(5)]
    for label in counts:
        sizes = [sum(case.label == label for case in part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert fold_cases(cases, "site-2", 5, 0)["validation"] != parts[0]


def test_a_tables_test_cases_are_in_no_fold_and_a_fold_that_is_not_there_is_refused() -> None:
    cases = [Case(Path(f"{i}.png"), i % 2, f"p{i}", "test" if i < 6 else "train") for i in range(20)]
    parts = [fold_cases(cases, "salt", 7, fold) for fold in range(7)]
    assert all({case.patient for case in part["test"]} == {f"p{i}" for i in range(6)} for part in parts)
    assert [len(part["validation"]) for part in parts] == [2] * 7
    with pytest.raises(ValueError, match="from 0 to 6; there is no fold 7"):
        fold_cases(cases, "salt", 7, 7)
