"""What encryption costs in accuracy: the same trainings with and without it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simulation.experiments.describe import Arm, Experiment
from simulation.experiments.measures import auc
from simulation.experiments.report.document import Cell, Estimate, Section, Table
from simulation.experiments.report.estimates import NOTHING, Units, estimate, tried_at


def section(experiment: Experiment, units: Units) -> Section:
    words = (
        "The same trainings, once as the hospitals do it and once with their updates averaged in float64 without any "
        "encryption. Macro AUC on the held-out cases of the hospitals that trained; spreads are over the seeds, the "
        "largest less the smallest. The first round's models are alike to about a millionth; training magnifies that, "
        "as it does any last bit, so that two runs end apart whichever way they were added. What is cut off at the "
        "bounds of an encrypted update, and comes a round later or not at all, is part of the difference."
    )
    return Section("The cost of encryption in accuracy", [words, *_tables(experiment, units)])


def _tables(experiment: Experiment, units: Units) -> Iterator[Table]:
    rows = [row for arm in experiment.arms if arm.twin_of for row in _row(arm, units)]
    if rows:
        head = ["arm", "encrypted", "plaintext", "difference", "largest at a seed", "spread, encrypted", "plaintext"]
        yield Table("encryption", "Encrypted and plaintext", head, rows)


def _row(twin: Arm, units: Units) -> Iterator[list[Cell]]:
    encrypted = twin.twin_of or ""
    areas = [
        {unit.seed: area for unit in tried_at(units.get(arm, ()), twin.members) if (area := auc()(unit)) is not None}
        for arm in (encrypted, twin.name)
    ]
    seeds = sorted(set(areas[0]) & set(areas[1]))
    if seeds:
        values = [[found[seed] for seed in seeds] for found in areas]
        apart = [own - other for own, other in zip(*values, strict=True)]
        largest = Estimate(float(np.abs(apart).max()), unit="area")
        spreads = [Estimate(float(np.ptp(of_way)), unit="area") if len(seeds) > 1 else NOTHING for of_way in values]
        both = [estimate(of_way, "area") for of_way in values]
        yield [encrypted, *both, estimate(apart, "difference"), largest, *spreads]
