"""How well models travel: each hospital's own model, and the federated one, on each hospital's held-out cases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from simulation.cross_site import CrossSite, FigureName, cross_site
from simulation.experiments.describe import Experiment, Group
from simulation.experiments.report.confusions import CELL, draw_matrix
from simulation.experiments.report.document import Cell, Picture, Section, Table
from simulation.experiments.report.drawing import new_figure, styled
from simulation.experiments.report.estimates import Units, at_sites, estimate
from simulation.experiments.results import UnitResult

FIGURES: dict[FigureName, str] = {"accuracy": "accuracy", "macro_auc": "macro AUC"}
RESAMPLES = 100  # of the intervals that single cells have; here seeds give the spread


def section(experiment: Experiment, units: Units) -> Section:
    words = (
        "Rows are models, columns the hospitals on whose held-out cases they were tried; means over the seeds. A "
        "hospital's row is the model that it trained alone."
    )
    found = [part for group in experiment.groups for part in _of_group(experiment, group, at_sites(units, group))]
    return Section("Each hospital's model at every hospital", [words, *found])


def _of_group(experiment: Experiment, group: Group, units: Units) -> Iterator[Picture | Table]:
    alone = [arm for arm in group.arms if experiment.arm(arm).kind == "alone" and units.get(arm)]
    others = {unit.seed: unit for unit in units.get(group.arms[0], ())}
    if not alone:
        return
    both = [unit for unit in units[alone[0]] if unit.seed in others] or units[alone[0]]
    crossed = [_crossed(unit, others.get(unit.seed), group.arms[0]) for unit in both]
    yield _picture(group, crossed)
    models = crossed[0].models
    rows = [
        [model, *(_mean(crossed, model, figure, where) for figure in FIGURES for where in ("at_home", "elsewhere"))]
        for model in models
    ]
    head = ["model", *(f"{name}, {where}" for name in FIGURES.values() for where in ("at home", "elsewhere"))]
    note = (
        "Elsewhere: the mean over the other hospitals, each counting alike; of a model of nobody's, over all. A macro "
        "AUC is over the classes that a hospital has, so that hospitals with other classes do not compare."
    )
    yield Table(f"cross-{group.key}", f"{group.heading}: at home and elsewhere", head, rows, note)


def _crossed(alone: UnitResult, other: UnitResult | None, name: str) -> CrossSite:
    models = dict(alone.models) | ({name: other.model} if other is not None else {})
    test = next(iter(models.values())).test
    sites = [str(site) for site in np.unique(test.sites)]
    return cross_site(
        {model: {site: examined.test.at(site).probabilities for site in sites} for model, examined in models.items()},
        {site: test.at(site).labels for site in sites},
        {site: test.at(site).patients for site in sites},
        resamples=RESAMPLES,
    )


def _mean(crossed: list[CrossSite], model: str, figure: FigureName, where: str) -> Cell:
    values = [value for each in crossed if (value := getattr(each, where)(model, figure)) is not None]
    return estimate(values, "area" if figure == "macro_auc" else "percent")


@styled
def _picture(group: Group, crossed: list[CrossSite]) -> Picture:
    models, sites = crossed[0].models, crossed[0].sites
    shares = np.array([_row(crossed, model) for model in models])
    figure, (axes,) = new_figure(width=1.6 + CELL * len(sites), height=0.9 + CELL * len(models))
    draw_matrix(axes, shares, models, sites)
    axes.set(xlabel="held-out cases of", ylabel="model")
    words = "; ".join(
        f"{model} at {site} {100 * share:.0f} %"
        for model, row in zip(models, shares, strict=True)
        for site, share in zip(sites, row, strict=True)
    )
    return Picture(f"cross-{group.key}", f"{group.heading}: accuracy", figure, words)


def _row(crossed: list[CrossSite], model: str) -> NDArray[np.float64]:
    """The model's mean accuracy at each site; NaN where no seed has cases."""
    values = [[np.nan if cell is None else cell.value for cell in each.row(model, "accuracy")] for each in crossed]
    return np.array(
        [np.mean(of_site) if not np.isnan(of_site).any() else np.nan for of_site in zip(*values, strict=True)]
    )
