"""Where models looked: the same test case under each arm of a group, for each class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from simulation.experiments.describe import Experiment, Group
from simulation.experiments.report.document import Picture, Section
from simulation.experiments.report.drawing import new_figure, styled
from simulation.experiments.report.estimates import Units
from simulation.experiments.results import HeatMap

PANEL = 1.9  # inches
FAINTEST = 0.6  # opacity of the hottest place


def section(experiment: Experiment, units: Units) -> Section:
    words = (
        "Grad-CAM++ of the last convolution for the true class, in one held-out case of each class at the first seed: "
        "warm is where the model found what speaks for the class. Beneath each is the probability it gave. Such maps "
        "show where, not why; on small inputs they are coarse."
    )
    pictures = [picture for group in experiment.groups for picture in _of_group(group, units)]
    return Section("Heat maps", [words, *pictures] if pictures else [])


def _of_group(group: Group, units: Units) -> Iterator[Picture]:
    found = {arm: maps for arm in group.arms if units.get(arm) and (maps := _maps(units, arm))}
    if found:
        shown = _cases(next(iter(found.values())))
        yield _picture(group, {arm: maps for arm, maps in found.items() if _cases(maps) == shown})


def _cases(maps: Sequence[HeatMap]) -> list[tuple[str, str]]:
    return [(each.label, each.case) for each in maps]


def _maps(units: Units, arm: str) -> Sequence[HeatMap]:
    first = units[arm][0]
    return first.model.heat_maps if len(first.models) == 1 else ()


@styled
def _picture(group: Group, maps: dict[str, Sequence[HeatMap]]) -> Picture:
    cases = next(iter(maps.values()))
    figure, all_axes = new_figure(
        len(cases), 1 + len(maps), width=PANEL * (1 + len(maps)), height=(PANEL + 0.25) * len(cases)
    )
    for row, case in enumerate(cases):
        same = [of_arm[row] for of_arm in maps.values()]
        level = _slice(same)
        axes = all_axes[row * (1 + len(maps)) : (row + 1) * (1 + len(maps))]
        _show(axes[0], _flat(case.image, level), None, "the case" if row == 0 else "", case.label)
        for place, arm, found in zip(axes[1:], maps, same, strict=True):
            _show(
                place,
                _flat(found.image, level),
                _flat(found.heat, level),
                arm if row == 0 else "",
                f"{found.given:.2f}",
            )
    labels = ", ".join(case.label for case in cases)
    return Picture(f"heat-{group.key}", group.title, figure, f"Heat maps of {', '.join(maps)} for {labels}", wide=True)


def _slice(maps: Sequence[HeatMap]) -> int | None:
    """Of volumes the slice where the maps together are warmest, so that all are shown at the same one."""
    if maps[0].image.ndim == 2:
        return None
    return int(np.argmax(sum(found.heat.sum(axis=(1, 2)) for found in maps)))


def _flat(array: NDArray[np.float32], level: int | None) -> NDArray[np.float32]:
    return array if level is None else array[level]


def _show(axes: Axes, image: NDArray[np.float32], heat: NDArray[np.float32] | None, title: str, below: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    if heat is not None:
        axes.imshow(
            heat, cmap="inferno", vmin=0, vmax=1, alpha=FAINTEST * np.clip(heat, 0, 1), interpolation="bilinear"
        )
    axes.set_title(title, fontsize=8)
    axes.set_xlabel(below, fontsize=8)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
