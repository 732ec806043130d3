"""Phantoms of COVID-19 graded by how much of the lungs is diseased, as UCADI's second network grades CTs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from crypto.canonical import digest
from participant.data.cases import TABLE
from simulation.datasets import Dataset, Row
from simulation.datasets.dataset import Sex
from simulation.datasets.files import write_table
from simulation.datasets.layouts import read_table
from simulation.datasets.phantoms import TERMS
from simulation.phantoms import SITES, Difficulty, Phantom, ct_phantom
from simulation.phantoms.files import PatientLabel, write_dicom_series

FORM = 1  # of what is drawn: raise it when the phantoms change
GRADES = ("I", "II", "III")
LIMITS = (0.08, 0.16)  # shares of the lungs' volume between the grades
TRIES = 40  # draws for each case that is wanted, before giving up


@dataclass(frozen=True)
class Severities:
    """`cases` of each grade from each scanner. The paper names no limits of its grades; these are `LIMITS`."""

    cases: int = 12
    seed: int = 1


def severity_dataset(
    root: Path, wanted: Severities, progress: Callable[[int, int], None] = lambda done, total: None
) -> Dataset:
    """The set, drawn into a folder of its own under `root` unless it is there already."""
    folder = root / f"severities-{digest([FORM, LIMITS, asdict(wanted)])[:16]}"
    if not (folder / TABLE).is_file():
        total = len(SITES) * len(GRADES) * wanted.cases
        rows: list[Row] = []
        for number in range(len(SITES)):
            for row in _drawn(folder, number, wanted):
                rows.append(row)
                progress(len(rows), total)
        write_table(folder, rows)
    return Dataset("phantoms-severity", GRADES, tuple(read_table(folder)), TERMS)


def grade_of(phantom: Phantom) -> str:
    """By the share of the lungs' volume that lesions take."""
    share = float(phantom.lesions.sum() / phantom.lungs.sum())
    return GRADES[int(np.searchsorted(LIMITS, share, side="right"))]


def _drawn(folder: Path, number: int, wanted: Severities) -> Iterator[Row]:
    """Random phantoms, of which those are kept whose grade is still wanted."""
    scanner = SITES[number]
    missing = dict.fromkeys(GRADES, wanted.cases)
    for attempt in range(TRIES * wanted.cases * len(GRADES)):
        seed = int(np.random.SeedSequence([FORM, wanted.seed, number, attempt]).generate_state(1)[0])
        phantom = ct_phantom("covid-19", scanner, seed, Difficulty(0.5))
        grade = grade_of(phantom)
        if missing[grade]:
            missing[grade] -= 1
            name = f"{scanner.name}-{attempt:05d}"
            label = PatientLabel(name, phantom.patient.sex, phantom.patient.age)
            write_dicom_series(phantom.hu, phantom.grid, folder / grade / name, label, scanner.name, seed)
            sex: Sex = "F" if label.sex == "F" else "M"
            yield Row(folder / grade / name, grade, name, "ct", age=float(label.age), sex=sex, source=scanner.name)
        if not any(missing.values()):
            return
    raise RuntimeError(f"after {attempt + 1} phantoms of {scanner.name} these are still missing: {missing}")
