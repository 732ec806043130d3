"""How well models travel: each site's own model, and the federated one, on the held-out cases of each site."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, TypeAlias

from models.bootstrap import RESAMPLES, Labels, Probabilities, bootstrap, macro_auc
from models.statistics import LEVEL, Interval, Patients, share_interval

FigureName: TypeAlias = Literal["macro_auc", "accuracy"]


@dataclass(frozen=True)
class Cell:
    """One model on one site's cases; None where these cases do not define the figure (a single class has no AUC)."""

    cases: int
    macro_auc: Interval | None
    accuracy: Interval | None

    def to_json(self) -> dict[str, Any]:
        return {
            "cases": self.cases,
            "macro_auc": self.macro_auc.to_json() if self.macro_auc else None,
            "accuracy": self.accuracy.to_json() if self.accuracy else None,
        }


@dataclass(frozen=True)
class CrossSite:
    """The matrix: `cells[model][site]`. A model with a site's name is the one that this site trained alone."""

    models: Sequence[str]
    sites: Sequence[str]
    cells: Mapping[str, Mapping[str, Cell]]

    def row(self, model: str, figure: FigureName) -> list[Interval | None]:
        """A model's figure at each site, in the order of `sites`."""
        return [getattr(self.cells[model][site], figure) for site in self.sites]

    def at_home(self, model: str, figure: FigureName) -> float | None:
        """A site's own model on that site's cases; None for a model that is no site's."""
        return _mean([self.cells[model][model]], figure) if model in self.sites else None

    def elsewhere(self, model: str, figure: FigureName) -> float | None:
        """The mean of a model's figure over the sites that it is not named for, each site counting the same."""
        return _mean([cell for site, cell in self.cells[model].items() if site != model], figure)

    def to_json(self) -> dict[str, Any]:
        return {
            model: {
                "sites": {site: self.cells[model][site].to_json() for site in self.sites},
                "at_home": {figure: self.at_home(model, figure) for figure in ("macro_auc", "accuracy")},
                "elsewhere": {figure: self.elsewhere(model, figure) for figure in ("macro_auc", "accuracy")},
            }
            for model in self.models
        }


def cross_site(
    probabilities: Mapping[str, Mapping[str, Probabilities]],
    labels: Mapping[str, Labels],
    patients: Mapping[str, Patients] | None = None,
    *,
    seed: int = 0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> CrossSite:
    """The matrix of `probabilities[model][site]` [n, C] against `labels[site]` [n], resampled by `patients[site]` [n].

    Raises:
        ValueError: a model without probabilities for one of the sites, or not as many as it has labels.
    """
    for model, of_model in probabilities.items():
        _check(model, of_model, labels)

    def cell(of_cases: Probabilities, site: str) -> Cell:
        truth, owners = labels[site], None if patients is None else patients[site]
        area = bootstrap(macro_auc, of_cases, truth, owners, seed=seed, level=level, resamples=resamples)
        return Cell(len(truth), area, share_interval(of_cases.argmax(axis=1) == truth, owners, level))

    cells = {model: {site: cell(of_model[site], site) for site in labels} for model, of_model in probabilities.items()}
    return CrossSite(tuple(probabilities), tuple(labels), cells)


def _check(model: str, of_model: Mapping[str, Probabilities], labels: Mapping[str, Labels]) -> None:
    for site, truth in labels.items():
        if site not in of_model:
            raise ValueError(f"the model {model} was not evaluated on the cases of {site}: evaluate it there too")
        if len(of_model[site]) != len(truth):
            raise ValueError(
                f"{len(of_model[site])} probabilities of the model {model} do not belong to the {len(truth)} labels "
                f"of {site}: give both for the same cases in the same order"
            )


def _mean(cells: Iterable[Cell], figure: FigureName) -> float | None:
    known = [interval.value for cell in cells if (interval := getattr(cell, figure)) is not None]
    return fmean(known) if known else None
