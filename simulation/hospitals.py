"""Where the hospitals' cases come from: phantoms of unlike hospitals, or given cases divided among them by patient."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from participant.data.cases import SPLITS, TABLE, Case, Split, find_cases
from simulation.federation import Hospital
from simulation.phantoms import CT_CLASSES, SITES, XRAY_CLASSES, Difficulty, make_hospital

#: Shares of UCADI's classes (healthy, covid-19, other-viral, bacterial) at each hospital: none sees many of all.
CT_MIXES = ((0.40, 0.50, 0.05, 0.05), (0.05, 0.05, 0.50, 0.40), (0.40, 0.10, 0.10, 0.40))
#: Shares of the X-ray classes (normal, pneumonia, covid-19).
XRAY_MIXES = ((0.60, 0.30, 0.10), (0.10, 0.50, 0.40), (0.30, 0.10, 0.60))
HOME_SHARE = 0.6  # of a class's patients go to the hospital that sees most of it, when given cases are divided


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


def apportioned(shares: Sequence[float], total: int) -> list[int]:
    """`total` divided as the shares say, in whole cases: largest remainders first."""
    exact = np.array(shares) / sum(shares) * total
    counts = np.floor(exact).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[index] += 1
    return [int(count) for count in counts]


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
    rng = np.random.default_rng(seed)
    places: dict[str, int] = {}
    for label in range(len(classes)):
        patients = sorted({case.patient for case in found.cases if case.label == label} - set(places))
        for rank, patient in enumerate(rng.permutation(patients)[:limit]):
            places[str(patient)] = _hospital_of(rank, len(patients[:limit]), label, sites)
    at: dict[int, list[Case]] = defaultdict(list)
    for case in found.cases:
        if case.patient in places:
            at[places[case.patient]].append(case)
    hospitals = [Hospital(f"site-{number + 1}", folder / f"site-{number + 1}") for number in range(sites)]
    for number, hospital in enumerate(hospitals):
        _write_table(hospital.data, [_row(case.path.resolve(), classes, case) for case in at[number]])
    return hospitals


def _hospital_of(rank: int, patients: int, label: int, sites: int) -> int:
    """The first ones of a class go to its own hospital, the others round the rest in turn."""
    home = label % sites
    if rank < HOME_SHARE * patients or sites == 1:
        return home
    others = [site for site in range(sites) if site != home]
    return others[rank % len(others)]


def _write_phantom_table(root: Path, classes: Sequence[str], counts: Mapping[Split, Sequence[int]]) -> None:
    """Which phantoms are for which split. They are drawn independently, so their order says nothing."""
    rows = []
    for index, label in enumerate(classes):
        splits = [name for name in SPLITS for _ in range(counts[name][index])]
        cases = sorted((root / label).iterdir()) if splits else []
        rows += [(f"{label}/{path.name}", label, path.stem, split) for path, split in zip(cases, splits, strict=True)]
    _write_table(root, rows)


def _row(path: Path, classes: Sequence[str], case: Case) -> tuple[str, str, str, str]:
    return str(path), classes[case.label], case.patient, case.split or ""


def _write_table(root: Path, rows: Sequence[tuple[str, str, str, str]]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    with (root / TABLE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "label", "patient", "split"))
        table.writerows(rows)
