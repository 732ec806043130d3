"""Which classes are taken for which: confusion matrices, and the accuracy of each class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from simulation.experiments.describe import Experiment, Group
from simulation.experiments.measures import confusion, precision, recall
from simulation.experiments.report.document import Picture, Section, Table
from simulation.experiments.report.drawing import ACCENT, CARD, TEXT, new_figure, styled
from simulation.experiments.report.estimates import Units, at_sites, cell

STRONGEST = 0.55  # how opaque a full cell is: figures stay readable on it, on a light page and a dark one
CELL = 0.85  # inches


def section(experiment: Experiment, units: Units) -> Section:
    words = (
        "Held-out cases of all hospitals, or of those that a heading names, added up over the seeds; rows are the "
        "truth, columns the likeliest class, and shades the share of the row."
    )
    found = [part for group in experiment.groups for part in _of_group(group, at_sites(units, group))]
    return Section("Confusion matrices and accuracy by class", [words, *found])


def _of_group(group: Group, units: Units) -> Iterator[Picture | Table]:
    arms = [arm for arm in group.arms if units.get(arm) and len(units[arm][0].models) == 1]
    if not arms:
        return
    classes = units[arms[0]][0].classes
    for number, arm in enumerate(arms):
        counts = sum((confusion(unit.model.test) for unit in units[arm]), np.zeros((len(classes),) * 2, np.int64))
        yield _picture(f"confusion-{group.key}-{number + 1}", f"{group.heading}: {arm}", classes, counts)
    rows = [
        [
            arm,
            *(cell(units, arm, kind(label), "percent") for label in classes for kind in (recall, precision)),
        ]
        for arm in arms
    ]
    head = ["", *(f"{label}, {kind} (%)" for label in classes for kind in ("accuracy", "precision"))]
    note = (
        "The accuracy of a class is the share of its cases that were given it (its recall, or sensitivity). At a seed "
        "where no case was given a class it has no precision."
    )
    yield Table(f"classes-{group.key}", f"{group.heading}: each class", head, rows, note)


@styled
def _picture(key: str, title: str, classes: Sequence[str], counts: NDArray[np.int64]) -> Picture:
    side = 0.9 + CELL * len(classes)
    figure, (axes,) = new_figure(width=side + 0.4, height=side)
    draw_matrix(axes, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), classes, classes)
    for row, column in np.ndindex(counts.shape):
        axes.text(column, row + 0.18, f"{counts[row, column]}", ha="center", va="center", fontsize=7)
    axes.set(xlabel="likeliest class", ylabel="truth")
    right = np.trace(counts) / max(counts.sum(), 1)
    return Picture(key, title, figure, f"Confusion matrix of {counts.sum()} cases, {100 * right:.1f} % on its diagonal")


def draw_matrix(axes: Axes, shares: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str]) -> None:
    """Cells shaded and marked with shares in [0, 1] as percentages; NaN leaves one empty."""
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5), aspect="equal")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    for (row, column), share in np.ndenumerate(shares):
        if np.isnan(share):
            continue
        place = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(place, 1, 1, facecolor=ACCENT, alpha=STRONGEST * share, linewidth=0))
        axes.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor=CARD, linewidth=2))
        axes.text(column, row - 0.08, f"{100 * share:.1f} %", ha="center", va="center", fontsize=8, color=TEXT)
