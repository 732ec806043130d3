"""From the figures of several units to one estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from models.statistics import mean_interval
from simulation.experiments.describe import Figure, Group, Measure
from simulation.experiments.report.document import SHARES, SIGNED, Cell, Estimate, Unit
from simulation.experiments.results import UnitResult

Units: TypeAlias = Mapping[str, Sequence[UnitResult]]
"""The done units of each arm, by seed."""

NOTHING = "—"


def estimate(values: Sequence[float], unit: Unit = "plain", among: int | None = None) -> Cell:
    """Mean and 95 % t-interval, cut off where no such figure can be; of one value no interval, of none a dash.

    Below 0 there are differences alone: no share, loss, time or number of bytes.

    Args:
        among: trainings that there were; where more than there are values, the cell says so.
    """
    if not values:
        return NOTHING
    among = among if among != len(values) else None
    if len(values) == 1:
        return Estimate(values[0], unit=unit, among=among)
    found = mean_interval(values)
    lowest, highest = -math.inf if unit in SIGNED else 0.0, 1.0 if unit in SHARES else math.inf
    return Estimate(found.value, max(found.low, lowest), min(found.high, highest), len(values), unit, among)


def cell(units: Units, arm: str, measure: Measure, unit: Unit) -> Cell:
    """An arm's figure."""
    return estimate(measured(units, arm, measure), unit, len(units.get(arm, ())))


def at_sites(units: Units, group: Group) -> Units:
    """The units of a group's arms as if they had been tried on the held-out cases of its hospitals alone."""
    return {arm: tried_at(units[arm], group.sites) for arm in group.arms if units.get(arm)}


def tried_at(done: Sequence[UnitResult], sites: Sequence[str]) -> Sequence[UnitResult]:
    """Units as if they had been tried on the held-out cases of some hospitals alone; of all, where none are named."""
    return [_at(unit, sites) for unit in done] if sites else done


def _at(unit: UnitResult, sites: Sequence[str]) -> UnitResult:
    models = {name: replace(model, test=model.test.at(*sites)) for name, model in unit.models.items()}
    return replace(unit, models=models)


def figures(units: Units, figure: Figure) -> list[float]:
    """The values of a table's cell, one a unit; of a comparison only seeds at which both arms are done."""
    if not figure.against:
        return measured(units, figure.arm, figure.measure)
    own = {unit.seed: figure.measure(unit) for unit in units.get(figure.arm, ())}
    other = {unit.seed: figure.measure(unit) for unit in units.get(figure.against, ())}
    pairs = [(value, other.get(seed)) for seed, value in own.items()]
    return [figure.by(value, control) for value, control in pairs if value is not None and control is not None]


def measured(units: Units, arm: str, measure: Measure) -> list[float]:
    """The arm's figure of each unit that has it."""
    return [value for unit in units.get(arm, ()) if (value := measure(unit)) is not None]
