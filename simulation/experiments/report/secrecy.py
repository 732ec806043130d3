"""What encryption costs in accuracy: the same trainings with and without it, and with another last bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from simulation.experiments.describe import Arm, Experiment
from simulation.experiments.measures import auc
from simulation.experiments.report.document import Cell, Estimate, Section, Table
from simulation.experiments.report.estimates import NOTHING, Units, estimate, tried_at

HEAD = (
    "arm",
    "encrypted",
    "plaintext",
    "plaintext, last bit changed",
    "encrypted less plaintext",
    "last bit changed less plaintext",
    "spread of the plaintext seeds",
)


def section(experiment: Experiment, units: Units) -> Section:
    words = (
        "The same trainings, once as the hospitals do it and once with their updates averaged in float64 without any "
        "encryption. Macro AUC on the held-out cases of the hospitals that trained. The first round's models are alike "
        "to about a millionth, and training magnifies that from round to round, as it does any difference: the third "
        "column is plaintext from a first model whose values are each the next float32. If encryption costs more than "
        "such a last bit does, the two differences tell."
    )
    return Section("The cost of encryption in accuracy", [words, *_tables(experiment, units)])


def _tables(experiment: Experiment, units: Units) -> Iterator[Table]:
    twins = [arm for arm in experiment.arms if arm.twin_of]
    rows = [row for arm in twins if not arm.nudged for row in _row(arm, _nudged(arm, twins), units)]
    if rows:
        note = "Spread: the largest less the smallest."
        yield Table("encryption", "Encrypted and plaintext", HEAD, rows, note)


def _nudged(twin: Arm, twins: Sequence[Arm]) -> str:
    return next((arm.name for arm in twins if arm.nudged and arm.twin_of == twin.twin_of), "")


def _row(twin: Arm, nudged: str, units: Units) -> Iterator[list[Cell]]:
    sealed, plain, other = (_areas(units, arm, twin.members) for arm in (twin.twin_of or "", twin.name, nudged))
    seeds = sorted(set(sealed) & set(plain))
    if seeds:
        ways = [{seed: found[seed] for seed in seeds if seed in found} for found in (sealed, plain, other)]
        means = [estimate(list(of_way.values()), "area", len(seeds)) for of_way in ways]
        spread = Estimate(float(np.ptp(list(ways[1].values()))), unit="area") if len(seeds) > 1 else NOTHING
        yield [twin.twin_of or "", *means, *(_apart(of_way, ways[1]) for of_way in (ways[0], ways[2])), spread]


def _areas(units: Units, arm: str, members: Sequence[str]) -> dict[int, float]:
    return {unit.seed: area for unit in tried_at(units.get(arm, ()), members) if (area := auc()(unit)) is not None}


def _apart(one: Mapping[int, float], other: Mapping[int, float]) -> Cell:
    return estimate([one[seed] - other[seed] for seed in sorted(set(one) & set(other))], "difference")
