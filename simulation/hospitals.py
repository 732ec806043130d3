"""Where the hospitals' cases come from: phantoms of unlike hospitals, or given cases divided among them by patient."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from participant.data.cases import SPLITS, Split, find_cases
from simulation.datasets.catalogue import terms_of
from simulation.datasets.dataset import Dataset, Row
from simulation.datasets.division import Skew, apportioned, shuffled
from simulation.datasets.files import write_table
from simulation.datasets.layouts import modality_of
from simulation.federation import Hospital
from simulation.phantoms import CT_CLASSES, SITES, XRAY_CLASSES, Difficulty, make_hospital

#: Shares of UCADI's classes (healthy, covid-19, other-viral, bacterial) at each hospital: none sees many of all.
CT_MIXES = ((0.40, 0.50, 0.05, 0.05), (0.05, 0.05, 0.50, 0.40), (0.40, 0.10, 0.10, 0.40))
#: Shares of the X-ray classes (normal, pneumonia, covid-19).
XRAY_MIXES = ((0.60, 0.30, 0.10), (0.10, 0.50, 0.40), (0.30, 0.10, 0.60))


@dataclass(frozen=True)
class Population:
    """How many phantoms a hospital has in each split, and how hard they are to tell apart."""

    train: int = 32
    validation: int = 8
    test: int = 24
    difficulty: float = 0.5

    def of_class(self, mix: Sequence[float]) -> dict[Split, list[int]]:
        """Cases of each class in each split."""
        return {name: apportioned(mix, getattr(self, name)) for name in SPLITS}


def phantom_hospitals(
    folder: Path,
    sites: int,
    seed: int,
    modality: str,
    population: Population,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Hospital]:
    """Hospitals with scanners and class mixes of their own, under `folder`: DICOM series (or PNG films) and a table."""
    kind, classes, mixes = ("ct", CT_CLASSES, CT_MIXES) if modality == "ct" else ("xray", XRAY_CLASSES, XRAY_MIXES)
    total = sites * sum(getattr(population, name) for name in SPLITS)
    hospitals = []
    for number, (scanner, mix) in enumerate(islice(zip(cycle(SITES), cycle(mixes), strict=False), sites), 1):
        name = f"site-{number}"
        before = (number - 1) * total // sites
        counts = population.of_class(mix)
        make_hospital(
            folder / name,
            {label: sum(counts[split][index] for split in SPLITS) for index, label in enumerate(classes)},
            replace(scanner, name=name),
            seed * 1000 + number,
            "ct" if kind == "ct" else "xray",
            difficulty=Difficulty(population.difficulty),
            workers=os.cpu_count() or 1,
            progress=lambda done, _, before=before: progress(before + done, total),  # type: ignore[misc]
        )
        _write_phantom_table(folder / name, classes, counts)
        hospitals.append(Hospital(name, folder / name))
    return hospitals


def split_hospitals(
    data: Path, classes: Sequence[str], folder: Path, sites: int, seed: int, limit: int | None = None
) -> list[Hospital]:
    """Given cases divided among hospitals: no patient is at two, and each class has a hospital that sees most of it.

    A table at each hospital names the files where they lie. `limit`: at most so many patients of each class.

    Raises:
        DataError: the cases cannot be found.
    """
    found = find_cases(data, classes)
    rows = tuple(_row(case.path.resolve(), classes[case.label], case.patient, case.split) for case in found.cases)
    dataset = Dataset(data.name, tuple(classes), rows, terms_of(data))
    rng = np.random.default_rng(seed)
    places = Skew().places([patients[:limit] for patients in shuffled(dataset, rng)], sites, rng)
    hospitals = [Hospital(f"site-{number + 1}", folder / f"site-{number + 1}") for number in range(sites)]
    for number, hospital in enumerate(hospitals):
        write_table(hospital.data, [row for row in rows if places.get(row.patient) == number])
    return hospitals


def _write_phantom_table(root: Path, classes: Sequence[str], counts: Mapping[Split, Sequence[int]]) -> None:
    """Which phantoms are for which split. They are drawn independently, so their order says nothing."""
    rows = []
    for index, label in enumerate(classes):
        splits = [name for name in SPLITS for _ in range(counts[name][index])]
        cases = sorted((root / label).iterdir()) if splits else []
        rows += [_row(path, label, path.stem, split) for path, split in zip(cases, splits, strict=True)]
    write_table(root, rows)


def _row(path: Path, label: str, patient: str, split: Split | None) -> Row:
    return Row(path, label, patient, modality_of(path), split=split)
