"""What the trainings cost: bytes sent, and seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simulation.experiments.describe import Experiment
from simulation.experiments.report.document import Cell, Section, Table, Unit
from simulation.experiments.report.estimates import NOTHING, Units, estimate
from simulation.experiments.results import UnitResult


def section(experiment: Experiment, units: Units) -> Section:
    return Section("Bytes and seconds", [*_uploads(experiment, units), *_seconds(experiment, units)])


def _uploads(experiment: Experiment, units: Units) -> Iterator[Table]:
    rows: list[Sequence[Cell]] = []
    for arm in experiment.arms:
        done = [unit for unit in units.get(arm.name, ()) if any(unit.upload_bytes.values())]
        if done:
            rows.append(
                [
                    arm.name,
                    _mean([float(unit.parameters) for unit in done], "whole"),
                    _mean([float(unit.fp32_bytes) for unit in done], "megabytes"),
                    _mean([float(_largest(unit)) for unit in done], "megabytes"),
                    _mean([_largest(unit) / unit.fp32_bytes for unit in done], "plain"),
                    _mean([float(sum(map(sum, unit.upload_bytes.values()))) for unit in done], "megabytes"),
                ]
            )
    if rows:
        head = [
            "arm",
            "trained values",
            "as float32 (MB)",
            "a site, a round (MB)",
            "times float32",
            "all sites, all rounds (MB)",
        ]
        note = (
            "What a site sends in a round: its sealed update, its key part and its signed manifest; the largest of all."
        )
        yield Table("uploads", "Bytes sent by the hospitals", head, rows, note)


def _largest(unit: UnitResult) -> int:
    return max(number for sent in unit.upload_bytes.values() for number in sent)


def _seconds(experiment: Experiment, units: Units) -> Iterator[Table]:
    phases = list(dict.fromkeys(phase for done in units.values() for unit in done for phase in unit.seconds))
    rows = [
        [
            arm.name,
            *(_mean([u.seconds[phase] for u in units[arm.name] if phase in u.seconds], "seconds") for phase in phases),
        ]
        for arm in experiment.arms
        if units.get(arm.name)
    ]
    if rows and phases:
        note = (
            "Training, sealing and opening are added up over the sites. Measured on the machine named above, one core "
            'a training, while other work may have shared it: a wide interval says that it did. "as sites" is what the '
            "federation would take with every hospital on a machine of its own: in each round the slowest site's "
            "training and sealing, then adding, opening and revealing."
        )
        yield Table("seconds", "Seconds", ["arm", *(f"{phase} (s)" for phase in phases)], rows, note)


def _mean(values: Sequence[float], unit: Unit) -> Cell:
    return estimate(values, unit) if values else NOTHING
