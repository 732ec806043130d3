"""Dividing a set among hospitals: by every rule no patient is parted, and the rule shows in the counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import simulation.datasets as d
from participant.data.cases import find_cases
from participant.data.errors import DataError
from participant.data.readers import read_case
from simulation.datasets.dataset import Row, Terms
from simulation.datasets.hospitals import hospitals

TERMS = Terms("CC0", "nobody")
CLASSES = ("a", "b", "c")


def some_set(patients: int, per_patient: int = 2, sources: int = 1) -> d.Dataset:
    """So many patients of each class, without files."""
    rows = tuple(
        Row(Path(f"/n/{label}-{number}-{film}"), label, f"{label}-{number:03}", "xray", source=f"s{number % sources}")
        for label in CLASSES
        for number in range(patients)
        for film in range(per_patient)
    )  # fmt: skip
    return d.Dataset("some", CLASSES, rows, TERMS)


def counts(parts: tuple[d.Dataset, ...]) -> np.ndarray:
    """Cases [hospital, class]."""
    return np.array([list(part.count_by_class().values()) for part in parts])


RULES = [d.Iid(), d.Dirichlet(0.5), d.Dirichlet(100.0), d.ByQuantity(), d.Skew(), d.BySource()]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_patients_stay_whole_and_the_seed_decides(rule: d.Division) -> None:
    whole = some_set(60, sources=7)
    parts = d.divide(whole, 4, rule, 1)
    assert sorted(row.path for part in parts for row in part.rows) == sorted(row.path for row in whole.rows)
    homes = Counter(patient for part in parts for patient in part.patients)
    assert set(homes.values()) == {1}
    for part in parts:
        splits = {(row.patient, row.split) for row in part.rows}
        assert len(splits) == len(part.patients)
        assert {split for _, split in splits} >= {"train", "test"}
    assert d.divide(whole, 4, rule, 1) == parts
    assert d.divide(whole, 4, rule, 2) != parts


def test_iid_hospitals_are_alike() -> None:
    found = counts(d.divide(some_set(40), 4, d.Iid(), 1))
    assert (found == 20).all()


def test_skewed_hospitals_each_see_most_of_a_class() -> None:
    found = counts(d.divide(some_set(40), 3, d.Skew(0.6), 1))
    assert found.diagonal().tolist() == [48, 48, 48]
    assert (found - np.diag(found.diagonal()) <= 16).all()


def test_each_hospital_is_twice_the_next() -> None:
    found = counts(d.divide(some_set(70), 3, d.ByQuantity(2.0), 1))
    assert found.sum(axis=1).tolist() == [240, 120, 60]
    assert (found == found[:, :1]).all()


def test_a_small_alpha_makes_unlike_hospitals_and_a_large_one_alike() -> None:
    def spread(alpha: float) -> float:
        """Mean over seeds of how far the hospitals' shares of a class are from equal."""
        found = [counts(d.divide(some_set(60), 4, d.Dirichlet(alpha), seed)) for seed in range(10)]
        return float(np.mean([np.abs(each / each.sum(axis=0) - 0.25).mean() for each in found]))

    assert spread(1000.0) < 0.02
    assert spread(0.3) > 0.15
    # The deviation of a symmetric Dirichlet share of four: sqrt(3 / (16 (4 alpha + 1))).
    shares = [counts(d.divide(some_set(60), 4, d.Dirichlet(1.0), seed)) / 120 for seed in range(200)]
    assert np.std(shares) == pytest.approx((3 / (16 * 5)) ** 0.5, rel=0.1)


def test_every_hospital_has_its_least_patients() -> None:
    for seed in range(20):
        parts = d.divide(some_set(10), 4, d.Dirichlet(0.3, least=4), seed)
        assert min(len(part.patients) for part in parts) >= 4
    with pytest.raises(d.CannotDivide, match="take fewer hospitals, or a larger alpha"):
        d.divide(some_set(2), 4, d.Dirichlet(0.5), 1)


def test_sources_are_hospitals_and_the_small_ones_share() -> None:
    whole = some_set(20, sources=3)
    parts = d.divide(whole, 3, d.BySource(), 1)
    assert [{row.source for row in part.rows} for part in parts] == [{"s0"}, {"s1"}, {"s2"}]
    parts = d.divide(whole, 2, d.BySource(), 1)
    assert [{row.source for row in part.rows} for part in parts] == [{"s0", "s2"}, {"s1"}]
    with pytest.raises(d.CannotDivide, match=r"3 sources \(s0, s1, s2\), too few for 4"):
        d.divide(whole, 4, d.BySource(), 1)


def test_a_hospital_without_patients_is_refused() -> None:
    with pytest.raises(d.CannotDivide, match="site-4 would have nobody of 3 patients"):
        d.divide(some_set(1), 4, d.Iid(), 1)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("iid", d.Iid()),
        ("source", d.BySource()),
        ("skew", d.Skew()),
        ("skew:0.8", d.Skew(0.8)),
        ("quantity:3", d.ByQuantity(3.0)),
        ("dirichlet", d.Dirichlet(0.5)),
        ("dirichlet:0.1", d.Dirichlet(0.1)),
    ],
)
def test_rules_have_names(text: str, rule: d.Division) -> None:
    assert d.division_of(text) == rule


@pytest.mark.parametrize("text", ["thrown", "iid:3", "dirichlet:much", "dirichlet:0", "skew:-1", "quantity:0"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"known: iid, source|could not convert|must be"):
        d.division_of(text)


def written_set(root: Path) -> d.Dataset:
    """Six patients of each of two classes with a film each, in files."""
    for label in ("normal", "covid"):
        for number in range(12):
            path = root / label / f"{label}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([number, len(label)]).integers(0, 256, (40, 30), np.uint8)
            Image.fromarray(pixels).save(path)
    return d.open_dataset(root)


def test_hospitals_are_what_an_agent_reads(tmp_path: Path) -> None:
    found = written_set(tmp_path / "set")
    made = hospitals(found, ("normal", "covid-19"), tmp_path / "hospitals", 3, d.Iid(), 5)
    assert [each.name for each in made] == ["site-1", "site-2", "site-3"]
    cases = [find_cases(each.data, ("normal", "covid-19")).cases for each in made]
    assert [len(each) for each in cases] == [8, 8, 8]
    assert {case.path for each in cases for case in each} == {row.path for row in found.rows}
    assert Counter(case.split for case in cases[0]) == {"train": 6, "test": 2}
    parts = d.parts_of(made, ("normal", "covid-19"), found.terms)
    assert d.distribution(parts).rows[-1] == ("all", "all", 12, 12, 24, 24)


def test_one_hospital_has_other_equipment_and_keeps_its_files(tmp_path: Path) -> None:
    found = written_set(tmp_path / "set")
    shift = d.XrayShift(inverted=True)

    def make() -> list[Path]:
        made = hospitals(found, ("normal", "covid-19"), tmp_path / "hospitals", 3, d.Iid(), 5, shifts={"site-3": shift})
        return [case.path for each in made for case in find_cases(each.data, ("normal", "covid-19")).cases]

    paths = make()
    times = {path: path.stat().st_mtime_ns for path in paths}
    moved = [path for path in paths if path.is_relative_to(tmp_path / "hospitals")]
    assert len(moved) == 8
    assert all(path.is_relative_to(tmp_path / "hospitals/site-3/shifted") for path in moved)
    origin = next(row.path for row in found.rows if row.path.stem == moved[0].name.rsplit("-", 1)[0])
    np.testing.assert_allclose(read_case(moved[0]).voxels, 1 - read_case(origin).voxels, atol=0.003)
    assert make() == paths
    assert {path: path.stat().st_mtime_ns for path in paths} == times


def test_a_shift_for_nobody_is_refused(tmp_path: Path) -> None:
    found = written_set(tmp_path / "set")
    with pytest.raises(ValueError, match=r"no hospital is called site-9; they are site-1 to site-3"):
        hospitals(found, found.classes, tmp_path / "h", 3, d.Iid(), 5, shifts={"site-9": d.XrayShift()})


def test_published_splits_pass_through(tmp_path: Path) -> None:
    found = written_set(tmp_path / "set")
    fixed = found.with_rows(
        replace(row, split="test" if number % 3 == 0 else "train") for number, row in enumerate(found.rows)
    )
    shares = {"train": 0.75, "validation": 0.25, "test": 0.0}
    made = hospitals(fixed, found.classes, tmp_path / "hospitals", 2, d.Iid(), 1, shares=shares)
    rows = [row for part in d.parts_of(made, found.classes, found.terms) for row in part.rows]
    assert {row.path for row in rows if row.split == "test"} == {row.path for row in fixed.rows if row.split == "test"}
    assert Counter(row.split for row in rows) == {"test": 8, "train": 12, "validation": 4}


def test_cannot_divide_is_an_error_of_the_data() -> None:
    assert issubclass(d.CannotDivide, DataError)
