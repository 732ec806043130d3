"""ROC curves of each class against the rest, with a band that says how much they owe to the cases at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from models.roc import DRAWS, GRID, roc_band, roc_on_grid
from simulation.experiments.describe import Experiment, Group, Reader
from simulation.experiments.measures import auc
from simulation.experiments.report.document import Estimate, Picture, Section, Table
from simulation.experiments.report.drawing import SOFT, TEXT, colour, new_figure, styled
from simulation.experiments.report.estimates import Units, at_sites, cell
from simulation.experiments.results import Predictions, UnitResult


def section(experiment: Experiment, units: Units) -> Section:
    words = (
        "Each class against the rest, on the held-out cases of all hospitals, or of those that a heading names. A line "
        "is the mean over the seeds of the sensitivity at each false-positive rate; its band holds the middle 95 % of "
        f"{DRAWS} bootstrap samples of patients."
    )
    groups = [pair for group in experiment.groups for pair in _of_group(group, at_sites(units, group))]
    return Section("ROC curves", [words, *groups])


def _of_group(group: Group, units: Units) -> Iterator[Picture | Table]:
    arms = {arm: done for arm in group.arms if (done := [u for u in units.get(arm, ()) if len(u.models) == 1])}
    if not arms:
        return
    classes = next(iter(arms.values()))[0].classes
    # Of two classes the second curve is the first one turned round.
    for number in range(len(classes)) if len(classes) > 2 else [len(classes) - 1]:
        if all(_has_curve(unit, number) for done in arms.values() for unit in done):
            yield _picture(group, arms, classes[number], number)
    rows = [[arm, *(cell(units, arm, auc(label), "area") for label in (*classes, None))] for arm in arms]
    yield Table(f"auc-{group.key}", f"{group.heading}: AUC on the held-out cases", ["", *classes, "mean"], rows)


def _has_curve(unit: UnitResult, number: int) -> bool:
    positive = unit.model.test.labels == number
    return bool(positive.any() and not positive.all())


@styled
def _picture(group: Group, arms: Mapping[str, Sequence[UnitResult]], label: str, number: int) -> Picture:
    figure, (axes,) = new_figure(height=3.9)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
    words = []
    for arm, done in arms.items():
        mean = cell({arm: done}, arm, auc(label), "area")
        area = mean.text if isinstance(mean, Estimate) else str(mean)
        _draw(axes, [unit.model.test for unit in done], number, f"{arm} ({area})", colour(list(group.arms).index(arm)))
        words.append(f"{arm} {area}")
    _draw_readers(axes, group.readers.get(label, ()))
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01))
    axes.legend(loc="lower right", title="AUC", title_fontsize=8)
    title = f"{group.heading}: {label} against the rest"
    return Picture(f"roc-{group.key}-{label}", title, figure, f"ROC curves; area: {'; '.join(words)}")


def _draw(axes: Axes, tests: Sequence[Predictions], number: int, label: str, shade: str) -> None:
    mean = np.mean([roc_on_grid(test, number) for test in tests], axis=0)
    low, high = roc_band(tests, number)
    axes.fill_between(GRID, low, high, color=shade, alpha=0.14, linewidth=0)
    axes.plot(GRID, mean, color=shade, linewidth=1.8, label=label)


def _draw_readers(axes: Axes, readers: Sequence[Reader]) -> None:
    """Single readers as crosses, the others by name."""
    single = [reader for reader in readers if not reader.name]
    if single:
        rates = [1 - reader.specificity for reader in single], [reader.sensitivity for reader in single]
        axes.plot(*rates, "x", color=TEXT, markersize=5, label="radiologists (the paper's)")
    for marker, reader in zip("so^v", [reader for reader in readers if reader.name], strict=False):
        label = f"{reader.name} (the paper's)"
        axes.plot(1 - reader.specificity, reader.sensitivity, marker, color=SOFT, markersize=5, label=label)
