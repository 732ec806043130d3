"""Figures against one setting, such as the local epochs of a round."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from simulation.experiments.describe import Experiment, Sweep
from simulation.experiments.measures import accuracy, auc
from simulation.experiments.report.curves import curves_of, draw_curves
from simulation.experiments.report.document import Estimate, Picture, Section, Table
from simulation.experiments.report.drawing import colour, new_figure, styled, whole_numbers
from simulation.experiments.report.estimates import Units, cell, tried_at


def section(experiment: Experiment, units: Units) -> Section:
    return Section("Sweeps", [part for sweep in experiment.sweeps for part in _of_sweep(experiment, sweep, units)])


def _of_sweep(experiment: Experiment, sweep: Sweep, units: Units) -> Iterator[Picture | Table]:
    arms = {value: arm for value, arm in sweep.arms.items() if units.get(arm)}
    units = {arm: tried_at(units[arm], experiment.arm(arm).members) for arm in arms.values()}
    units, seeds = _of_common_seeds(arms.values(), units)
    if not seeds:
        return
    yield _over_rounds(sweep, arms, units)
    yield _at_the_end(sweep, arms, units)
    rows = [
        [
            f"{value:g}",
            arm,
            cell(units, arm, auc(), "area"),
            cell(units, arm, accuracy(), "percent"),
        ]
        for value, arm in arms.items()
    ]
    note = (
        f"Of those seeds alone at which every arm of the sweep was trained: {', '.join(map(str, seeds))}. {sweep.note}"
    ).strip()
    yield Table(f"sweep-{sweep.key}", sweep.title, [sweep.what, "arm", "macro AUC", "accuracy (%)"], rows, note)


def _of_common_seeds(arms: Collection[str], units: Units) -> tuple[Units, list[int]]:
    """The arms' units at the seeds that all of them have, and these: other splits would pass for the setting."""
    of_arms = [{unit.seed for unit in units[arm]} for arm in arms]
    seeds = sorted(set.intersection(*of_arms)) if of_arms else []
    return {arm: [unit for unit in units[arm] if unit.seed in seeds] for arm in arms}, seeds


@styled
def _over_rounds(sweep: Sweep, arms: dict[float, str], units: Units) -> Picture:
    figure, (axes,) = new_figure()
    for number, (value, arm) in enumerate(arms.items()):
        if curves := curves_of(units[arm], "auc"):
            draw_curves(axes, curves, f"{sweep.what} {value:g}", colour(number))
    axes.set(xlabel="round", ylabel="macro AUC, validation cases")
    whole_numbers(axes)
    axes.legend(loc="best")
    return Picture(f"sweep-{sweep.key}-rounds", f"{sweep.title}: by rounds", figure, f"AUC by round for {sweep.what}")


@styled
def _at_the_end(sweep: Sweep, arms: dict[float, str], units: Units) -> Picture:
    figure, (axes,) = new_figure()
    means = {value: cell(units, arm, auc(), "area") for value, arm in arms.items()}
    known = {value: mean for value, mean in means.items() if isinstance(mean, Estimate)}
    for value, mean in known.items():
        if mean.low is not None and mean.high is not None:
            axes.plot([value, value], [mean.low, mean.high], color=colour(0), linewidth=1.2)
    axes.plot(list(known), [mean.mean for mean in known.values()], color=colour(0), marker="o", markersize=5)
    axes.set(xlabel=sweep.what, ylabel="macro AUC, held-out cases")
    axes.set_xscale("log" if max(arms) > 20 * min(arms) else "linear")
    axes.set_xticks(list(arms), [f"{value:g}" for value in arms])
    axes.minorticks_off()
    words = "; ".join(f"{value:g}: {mean.text}" for value, mean in known.items())
    return Picture(f"sweep-{sweep.key}-end", f"{sweep.title}: held-out cases", figure, f"Macro AUC at the end: {words}")
