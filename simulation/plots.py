"""The learning curves of a run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from simulation.evaluation import Comparison

Curve = Sequence[tuple[int, float]]  # (round, macro AUC)

FEDERATED, POOLED, ALONE = "#0b6e99", "#444444", ("#d98324", "#b5502d", "#d9b224", "#8f6b9c", "#6b8f71")


def plot_learning_curves(path: Path, curves: Mapping[str, Curve], comparison: Comparison, title: str) -> None:
    """Left: macro AUC on the pooled validation cases by rounds. Right: macro AUC on the held-out cases, last round."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    figure.suptitle(title)
    colours = _colours(comparison)
    _draw_curves(left, curves, colours)
    _draw_bars(right, comparison, colours)
    figure.savefig(path, dpi=130)


def _colours(comparison: Comparison) -> dict[str, str]:
    alone = {site: ALONE[number % len(ALONE)] for number, site in enumerate(comparison.alone)}
    return {**alone, "federated": FEDERATED, "pooled": POOLED}


def _draw_curves(axes: Axes, curves: Mapping[str, Curve], colours: Mapping[str, str]) -> None:
    for name, curve in curves.items():
        federated = name == "federated"
        rounds, areas = zip(*curve, strict=True) if curve else ((), ())
        axes.plot(
            rounds,
            areas,
            marker="o",
            markersize=4 if federated else 3,
            linewidth=2.4 if federated else 1.2,
            linestyle="--" if name == "pooled" else "-",
            color=colours[name],
            label=name if name in ("federated", "pooled") else f"{name} alone",
            zorder=3 if federated else 2,
        )
    axes.set(xlabel="rounds (of the same number of epochs)", ylabel="macro AUC, validation cases of all hospitals")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(loc="best", fontsize=9)


def _draw_bars(axes: Axes, comparison: Comparison, colours: Mapping[str, str]) -> None:
    scores = {f"{site} alone": (s.macro_auc, colours[site]) for site, s in comparison.alone.items()}
    scores["federated"] = (comparison.federated.macro_auc, FEDERATED)
    scores["pooled"] = (comparison.pooled.macro_auc, POOLED)
    left = min(0.5, *(value for value, _ in scores.values()))
    for row, (name, (value, colour)) in enumerate(scores.items()):
        axes.barh(name, value, color=colour)
        axes.text(left + 0.01, row, f"{value:.3f}", va="center", color="white", fontweight="bold", fontsize=9)
    axes.axvline(comparison.alone_mean, color="black", linewidth=1, linestyle=":")
    axes.set_title(f"dotted: average hospital alone, {comparison.alone_mean:.3f}", fontsize=9)
    axes.invert_yaxis()
    axes.set(xlim=(left, 1.0), xlabel="macro AUC, held-out cases of all hospitals")
