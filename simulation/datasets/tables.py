"""Tables of a set and of hospitals: how cases and patients are distributed, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TypeAlias

from participant.data.cases import SPLITS
from simulation.datasets.dataset import Dataset, Row, by_patient

Cells: TypeAlias = tuple[str | int, ...]
#: Lower bounds of the age groups, in years.
AGES = (0, 20, 40, 60, 80)
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Table:
    """Rows of words and whole numbers under a header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[Cells, ...]

    def markdown(self) -> str:
        """The table without its title, numbers to the right."""
        numbers = [bool(self.rows) and isinstance(cell, int) for cell in (self.rows or (self.header,))[0]]
        rule = ["--:" if number else "---" for number in numbers]
        shown = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in [list(self.header), rule, *shown])


def distribution(parts: Sequence[Dataset]) -> Table:
    """Cases of each class at each hospital (or in each set) and split; patients; and all together."""
    classes = parts[0].classes
    rows: list[Cells] = [
        (part.name, split or "not divided", *_cases(in_split, classes), len(in_split), len(by_patient(in_split)))
        for part, split in product(parts, (*SPLITS, None))
        if (in_split := [row for row in part.rows if row.split == split])
    ]
    everything = [row for part in parts for row in part.rows]
    total: Cells = ("all", "all", *_cases(everything, classes), len(everything), len(by_patient(everything)))
    return Table("Data distribution", ("site", "split", *classes, "cases", "patients"), (*rows, total))


def patients(parts: Sequence[Dataset]) -> Table:
    """Patients of each class at each hospital, and of all, by sex and age group; who is in two classes counts in both.

    A patient's sex and age are those of the first case that tells them.
    """
    classes = parts[0].classes
    rows = [_patient_row(part.name, label, part.rows) for part in parts for label in classes]
    everything = [row for part in parts for row in part.rows] if len(parts) > 1 else []
    total = [_patient_row("all", label, everything) for label in classes] if everything else []
    header = ("site", "class", "patients", "F", "M", f"sex {UNKNOWN}", *age_groups(), f"age {UNKNOWN}")
    return Table("Patients by sex and age", header, (*rows, *total))


def _patient_row(site: str, label: str, rows: Iterable[Row]) -> Cells:
    own = by_patient(row for row in rows if row.label == label)
    sexes = Counter(next((row.sex for row in of if row.sex), "") for of in own.values())
    ages = Counter(age_group(next((row.age for row in of if row.age is not None), None)) for of in own.values())
    counts = [ages[group] for group in (*age_groups(), UNKNOWN)]
    return (site, label, len(own), sexes["F"], sexes["M"], sexes[""], *counts)


def sources(dataset: Dataset) -> Table:
    """Cases of each class from each source: where class and source coincide, a network may learn the source."""
    names = sorted({row.source for row in dataset.rows})
    rows: list[Cells] = [
        (name or UNKNOWN, *_cases([row for row in dataset.rows if row.source == name], dataset.classes))
        for name in names
    ]
    return Table("Cases by source", ("source", *dataset.classes), tuple(rows))


def exclusions(dataset: Dataset) -> Table:
    """What was left out: for each reason and class, in the order of filtering, how many cases of how many patients."""
    found = dict.fromkeys((each.reason, each.row.label) for each in dataset.excluded)
    rows = []
    for reason, label in found:
        out = [each.row for each in dataset.excluded if (each.reason, each.row.label) == (reason, label)]
        rows.append((reason, label, len(out), len(by_patient(out))))
    return Table("Left out", ("a case that", "class", "cases", "patients"), tuple(rows))


def age_groups() -> tuple[str, ...]:
    """The names of the age groups."""
    between = [f"{low}-{high - 1}" for low, high in pairwise(AGES)]
    return (*between, f"{AGES[-1]}+")


def age_group(age: float | None) -> str:
    """The group of an age in years; ages under 0 or over 120 are errors of a table and unknown."""
    if age is None or not 0 <= age <= 120:
        return UNKNOWN
    return age_groups()[sum(age >= low for low in AGES) - 1]


def _cases(rows: Iterable[Row], classes: Sequence[str]) -> list[int]:
    counts = Counter(row.label for row in rows)
    return [counts[name] for name in classes]
