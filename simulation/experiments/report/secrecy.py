"""What encryption costs in accuracy: the same trainings with and without it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simulation.experiments.describe import Experiment
from simulation.experiments.measures import auc
from simulation.experiments.report.document import Cell, Estimate, Section, Table
from simulation.experiments.report.estimates import Units, estimate


def section(experiment: Experiment, units: Units) -> Section:
    words = (
        "The same trainings, once as the hospitals do it and once with their updates averaged in float64 without any "
        "encryption. Macro AUC on the held-out cases; the spread is that of the plaintext seeds, largest less smallest."
    )
    return Section("The cost of encryption in accuracy", [words, *_tables(experiment, units)])


def _tables(experiment: Experiment, units: Units) -> Iterator[Table]:
    rows = [row for arm in experiment.arms if arm.twin_of for row in _row(arm.twin_of, arm.name, units)]
    if rows:
        head = ["arm", "encrypted", "plaintext", "difference", "largest difference at a seed", "spread of the seeds"]
        yield Table("encryption", "Encrypted and plaintext", head, rows)


def _row(encrypted: str, plaintext: str, units: Units) -> Iterator[list[Cell]]:
    areas = [
        {unit.seed: area for unit in units.get(arm, ()) if (area := auc()(unit)) is not None}
        for arm in (encrypted, plaintext)
    ]
    seeds = sorted(set(areas[0]) & set(areas[1]))
    if seeds:
        apart = [areas[0][seed] - areas[1][seed] for seed in seeds]
        both = [estimate([found[seed] for seed in seeds], "area") for found in areas]
        largest = Estimate(float(np.abs(apart).max()), unit="area")
        spread = Estimate(float(np.ptp([areas[1][seed] for seed in seeds])), unit="area")
        yield [encrypted, *both, estimate(apart, "difference"), largest, spread]
