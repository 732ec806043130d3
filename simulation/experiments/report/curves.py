"""How trainings went, round after round, and in which round they were as good as training in one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import numpy as np
from matplotlib.axes import Axes

from simulation.experiments.describe import Experiment, Group
from simulation.experiments.report.document import Cell, Picture, Section, Table
from simulation.experiments.report.drawing import colour, new_figure, styled, whole_numbers
from simulation.experiments.report.estimates import Units
from simulation.experiments.results import UnitResult
from simulation.significance import rounds_to_match

Value: TypeAlias = Literal["loss", "auc", "accuracy", "training_loss"]
NAMES: dict[Value, str] = {
    "loss": "loss, validation cases",
    "auc": "macro AUC, validation cases",
    "accuracy": "accuracy, validation cases",
    "training_loss": "loss, training batches",
}
TOLERANCE = 0.01  # of macro AUC: a federation this close below the control's last round has matched it


def section(experiment: Experiment, units: Units) -> Section:
    words = (
        "A thin line for each seed, a thick one for their mean. After each round the model is judged on the validation "
        "cases of all hospitals that take part, whoever was asked in the round; round 0 is the first model."
    )
    pictures = [picture for group in experiment.groups if group.curves for picture in _pictures(group, units)]
    return Section("Learning curves", [words, *pictures, *matching(experiment, units)])


def curves_of(units: Sequence[UnitResult], value: Value) -> list[list[tuple[int, float]]]:
    """Of each unit (round, value), where it has the value."""
    found = [
        [(point.round, number) for point in unit.curve if (number := getattr(point, value)) is not None]
        for unit in units
    ]
    return [curve for curve in found if curve]


def mean_curve(curves: Sequence[Sequence[tuple[int, float]]]) -> list[tuple[int, float]]:
    """The mean over the curves in those rounds that all of them have."""
    by_round = [dict(curve) for curve in curves]
    shared = sorted(set.intersection(*(set(curve) for curve in by_round))) if by_round else []
    return [(number, float(np.mean([curve[number] for curve in by_round]))) for number in shared]


def matching(experiment: Experiment, units: Units) -> Iterator[Table]:
    """The first round from which on an arm's macro AUC is within the tolerance of its control's last."""
    rows: list[list[Cell]] = []
    for group in experiment.groups:
        for arm in [arm for arm in group.arms if group.control and arm != group.control]:
            found = list(_matched(units.get(arm, ()), units.get(group.control or "", ())))
            if found:
                share = f"{sum(number is not None for number in found)} of {len(found)}"
                # No mean: over those seeds alone that matched it would be the better the fewer did.
                by_seed = ", ".join("not" if number is None else str(number) for number in found)
                rows.append([arm, group.control or "", share, by_seed])
    if rows:
        head = ["arm", "control", "seeds that matched it", "after round, seed by seed"]
        note = (
            f"Matched: from that round on the macro AUC on the validation cases is never more than {TOLERANCE} below "
            "the control's of the same seed after its last round."
        )
        yield Table("rounds-to-match", "Rounds needed to match training in one place", head, rows, note)


def _matched(done: Sequence[UnitResult], controls: Sequence[UnitResult]) -> Iterator[int | None]:
    """Of each unit whose seed has a control, the round in which it matched that one."""
    targets = {control.seed: curves[0][-1][1] for control in controls if (curves := curves_of([control], "auc"))}
    for unit in sorted(done, key=lambda unit: unit.seed):
        if unit.seed in targets and (curves := curves_of([unit], "auc")):
            yield rounds_to_match(curves[0], targets[unit.seed], TOLERANCE)


def _pictures(group: Group, units: Units) -> Iterator[Picture]:
    for value in NAMES:
        arms = {arm: curves for arm in group.arms if (curves := curves_of(units.get(arm, ()), value))}
        if arms:
            yield _picture(group, value, arms)


@styled
def _picture(group: Group, value: Value, arms: dict[str, list[list[tuple[int, float]]]]) -> Picture:
    figure, (axes,) = new_figure()
    for arm, curves in arms.items():
        draw_curves(axes, curves, arm, colour(list(group.arms).index(arm)))
    axes.set(xlabel="round", ylabel=NAMES[value])
    whole_numbers(axes)
    axes.legend(loc="best")
    last = "; ".join(f"{arm} {mean[-1][1]:.3f}" for arm, curves in arms.items() if (mean := mean_curve(curves)))
    words = f"{NAMES[value]} by round; after the last: {last}"
    return Picture(f"curves-{group.key}-{value.replace('_', '-')}", f"{group.title}: {NAMES[value]}", figure, words)


def draw_curves(axes: Axes, curves: Sequence[Sequence[tuple[int, float]]], label: str, shade: str) -> None:
    """One arm: thin lines for its seeds, a thick one for their mean."""
    if len(curves) > 1:
        for curve in curves:
            axes.plot(*zip(*curve, strict=True), color=shade, linewidth=0.7, alpha=0.45)
    axes.plot(*zip(*mean_curve(curves), strict=True), color=shade, linewidth=2, label=label)
