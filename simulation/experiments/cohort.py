"""Whose cases an experiment is run on: from a set to hospitals with folders of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from participant.data.cases import SPLITS, Split
from participant.data.errors import DataProblems
from participant.data.splits import SHARES
from simulation import datasets
from simulation.datasets import Dataset, Phantoms, Shift
from simulation.datasets.sampling import Caps
from simulation.experiments.severities import Severities, severity_dataset
from simulation.federation import Hospital

Source: TypeAlias = str | Phantoms | Severities

SHEET = "data.json"
PANEL = "inpainted.png"
SHOWN = 6  # films before and after


@dataclass(frozen=True)
class Cohort:
    """Cases at hospitals.

    Attributes:
        source: a set's name, or what to draw.
        sites: how many hospitals.
        division: who goes where, as on a command line (`iid`, `source`, `skew:0.6`, `dirichlet:0.5`).
        names: the set's labels: the study's classes, where they differ.
        caps: the most cases of each class in each split.
        shares: of the splits. They are drawn before hospitals are, so that cohorts of one set have one test set.
        shifts: hospitals whose images are changed.
        absent: source: labels that it has no case of; `untrained`: or none but for testing.
        inpaint: whether letters and markers on films are painted over.
    """

    source: Source
    sites: int = 1
    division: str = "iid"
    names: Mapping[str, str] = field(default_factory=dict)
    caps: Caps = field(default_factory=dict)
    shares: Mapping[Split, float] = field(default_factory=lambda: SHARES)
    shifts: Mapping[str, Shift] = field(default_factory=dict)
    absent: Mapping[str, Sequence[str]] = field(default_factory=dict)
    untrained: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inpaint: bool = False


class Sources:
    """The sets that cohorts are drawn from, each opened or drawn once.

    Args:
        root: folder of real sets, or one set; None where everything is drawn.
        drawn: folder for drawn sets and changed films.
        progress: called with (cases drawn, all).
    """

    def __init__(
        self, root: Path | None, drawn: Path, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        self._root, self._drawn, self._progress = root, drawn, progress
        self._open: dict[tuple[Source, bool], Dataset] = {}

    def open(self, source: Source, inpaint: bool = False) -> Dataset:
        """A set, films from the side and CT slices among films left out.

        Raises:
            DataError: there is none of this name under the root, and the root is none itself.
        """
        if (source, inpaint) not in self._open:
            self._open[source, inpaint] = self._without_marks(source) if inpaint else self._plain(source)
        return self._open[source, inpaint]

    def _plain(self, source: Source) -> Dataset:
        if isinstance(source, Severities):
            return severity_dataset(self._drawn, source, self._progress)
        if isinstance(source, Phantoms):
            return datasets.phantom_dataset(self._drawn, source, workers=os.cpu_count() or 1, progress=self._progress)
        named = self._root is not None and (self._root / source).is_dir()
        found = datasets.open_dataset(source, self._root) if named else datasets.open_dataset(self._root or source)
        return datasets.without_ct_slices(datasets.without_laterals(found))

    def _without_marks(self, source: Source) -> Dataset:
        found = datasets.inpainted(self.open(source), self._drawn / "inpainted")
        if found.changed:
            datasets.write_panel([before for before, _ in found.changed[:SHOWN]], self._drawn / PANEL)
        return found.dataset


def check_root(root: Path | None, names: Collection[str]) -> None:
    """See that several sets lie under the root by their names: one set must not pass for each of them.

    Raises:
        DataError: naming those that are needed.
    """
    absent = sorted(name for name in names if root is not None and not (root / name).is_dir())
    if root is not None and len(names) > 1 and absent:
        needed, missing = ", ".join(sorted(names)), ", ".join(absent)
        problem = f"the experiment needs a folder with {needed} in it, and there is no {missing}"
        raise DataProblems(root, [f"{problem}; one set cannot stand for several"])


def settle(cohort: Cohort, classes: Sequence[str], sources: Sources, folder: Path, seed: int) -> list[Hospital]:
    """The cohort's hospitals under `folder`, and there its tables, data.json.

    Raises:
        DataError: there is no such set, or it cannot be divided so.
    """
    dataset = sources.open(cohort.source, cohort.inpaint)
    chosen = _split(dataset.of_classes(classes, cohort.names), cohort, seed)
    for source, labels in cohort.absent.items():
        chosen = chosen.without(f"is of a class that {source} does not have", _of(source, labels))
    for source, labels in cohort.untrained.items():
        reason = f"is of a class that {source} has none of to train on"
        chosen = chosen.without(reason, _of(source, labels, ("train", "validation")))
    chosen = datasets.sampled(chosen, cohort.caps, seed)
    division = datasets.division_of(cohort.division)
    found = datasets.hospitals(chosen, classes, folder, cohort.sites, division, seed, shifts=cohort.shifts)
    _write_sheet(folder / SHEET, chosen, found)
    return found


def _split(dataset: Dataset, cohort: Cohort, seed: int) -> Dataset:
    """With splits: of each source by itself where sources are hospitals, so that each has its share of every class."""
    if cohort.division != "source":
        return datasets.with_splits(dataset, str(seed), cohort.shares)
    parts = [
        datasets.with_splits(
            dataset.with_rows(row for row in dataset.rows if row.source == source), f"{seed}/{source}", cohort.shares
        )
        for source in sorted({row.source for row in dataset.rows})
    ]
    return dataset.with_rows(row for part in parts for row in part.rows)


def _of(source: str, labels: Sequence[str], splits: Sequence[str] = SPLITS) -> Callable[[datasets.Row], bool]:
    return lambda row: row.source == source and row.label in labels and row.split in splits


def _write_sheet(path: Path, dataset: Dataset, hospitals: Sequence[Hospital]) -> None:
    parts = datasets.parts_of(hospitals, dataset.classes, dataset.terms)
    tables = [datasets.distribution(parts), datasets.patients(parts), datasets.exclusions(dataset)]
    sheet: dict[str, Any] = {
        "words": datasets.describe(dataset),
        "warning": dataset.terms.warning,
        "tables": [asdict(table) for table in tables],
    }
    path.write_text(json.dumps(sheet, indent=1) + "\n", encoding="utf-8")
