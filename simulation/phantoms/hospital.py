"""A hospital's data folder, filled with phantoms: one folder per class, as the readers expect real data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from simulation.phantoms.anatomy import Patient, build_chest, draw_patient
from simulation.phantoms.files import PatientLabel, write_dicom_series, write_png
from simulation.phantoms.geometry import Field, Grid
from simulation.phantoms.lesions import CT_CLASSES, Difficulty, add_lesions
from simulation.phantoms.scanner import Scanner
from simulation.phantoms.xray import LESIONS_OF, XRAY_CLASSES, film, film_grid

Kind: TypeAlias = Literal["ct", "xray"]


@dataclass(frozen=True)
class Phantom:
    """One synthetic CT. hu, lesions, lungs and side: (depth, height, width).

    lesions and lungs are shares of each voxel; side is -1 in the patient's right half, +1 in the left.
    """

    hu: Field
    lesions: Field
    lungs: Field
    side: Field
    grid: Grid
    patient: Patient


def ct_phantom(label: str, scanner: Scanner, seed: int, difficulty: Difficulty | None = None) -> Phantom:
    """The CT that `scanner` takes of a random patient with disease `label` (one of CT_CLASSES); the same for a seed."""
    rng = np.random.default_rng(seed)
    patient = draw_patient(rng, scanner.patient_size)
    grid = scanner.grid(patient)
    chest = build_chest(patient, grid, rng)
    case = add_lesions(chest, label, rng, difficulty or Difficulty())
    return Phantom(scanner.scan(case.hu, grid, rng), case.lesions, case.lungs, chest.side, grid, patient)


def xray_phantom(label: str, scanner: Scanner, seed: int, difficulty: Difficulty | None = None) -> Field:
    """The film (height, width) in [0, 1] of a random patient with disease `label` (one of XRAY_CLASSES)."""
    if label not in XRAY_CLASSES:
        raise ValueError(f"no film is known for class {label!r}; known classes: {', '.join(XRAY_CLASSES)}")
    rng = np.random.default_rng(seed)
    patient = draw_patient(rng, scanner.patient_size)
    grid = film_grid(patient, scanner)
    case = add_lesions(build_chest(patient, grid, rng), LESIONS_OF[label], rng, difficulty or Difficulty())
    return film(case.hu, grid, scanner, rng)


def make_hospital(
    folder: Path,
    mix: Mapping[str, int],
    scanner: Scanner,
    seed: int,
    kind: Kind = "ct",
    *,
    difficulty: Difficulty | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write `mix` (cases per class) as FOLDER/CLASS/PATIENT: a DICOM series each, or PATIENT.png for films.

    Each case is a patient of its own. The same arguments give the same files, however many `workers` (processes) write
    them. `progress` is called with (done, total). Raises ValueError for a class that the kind does not know.
    """
    known = CT_CLASSES if kind == "ct" else XRAY_CLASSES
    unknown = sorted(set(mix) - set(known))
    if unknown:
        raise ValueError(f"no {kind} phantom of class {', '.join(unknown)}; known classes: {', '.join(known)}")
    orders = [
        (folder / label / f"{scanner.name}-{number:04d}", label, number)
        for number, label in enumerate(label for label in known for _ in range(mix.get(label, 0)))
    ]
    write = partial(_write_case, scanner=scanner, seed=seed, kind=kind, difficulty=difficulty or Difficulty())
    for done, _ in enumerate(_each(write, orders, workers), start=1):
        progress(done, len(orders))


Order: TypeAlias = tuple[Path, str, int]


def _each(write: Callable[[Order], None], orders: list[Order], workers: int) -> Iterator[None]:
    if workers < 2:
        yield from map(write, orders)
        return
    # Spawned, not forked: whoever calls may have threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write, orders, chunksize=4)


def _write_case(order: Order, scanner: Scanner, seed: int, kind: Kind, difficulty: Difficulty) -> None:
    path, label, number = order
    own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if kind == "xray":
        write_png(xray_phantom(label, scanner, own_seed, difficulty), path.with_name(path.name + ".png"))
        return
    phantom = ct_phantom(label, scanner, own_seed, difficulty)
    whom = PatientLabel(path.name, phantom.patient.sex, phantom.patient.age)
    write_dicom_series(phantom.hu, phantom.grid, path, whom, scanner.name, own_seed)
