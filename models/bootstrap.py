"""Figures of a classifier, and how sure they are by resampling patients: of one model, or of two on the same cases.

What `models.statistics` has a formula for (areas of two classes, shares) needs none of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.statistics import LEVEL, Difference, Interval, Patients, area_interval, log_odds, numbered

Probabilities = NDArray[np.floating]
Labels = NDArray[np.integer]

Figure: TypeAlias = Callable[[Probabilities, Labels], float | None]
"""A figure of probabilities [n, C] and labels [n]; None where these cases do not define it."""

RESAMPLES: Final = 2000


def auc_of(name: int) -> Figure:
    """The area under the ROC curve of class `name` against the rest."""

    def figure(probabilities: Probabilities, labels: Labels) -> float | None:
        # Thousands of resamples come by: this takes a quarter of the time of `auc_variance`.
        scores = log_odds(probabilities, name)
        cases, others = np.sort(scores[labels == name]), np.sort(scores[labels != name])
        if not len(cases) or not len(others):
            return None
        below_and_tied = np.searchsorted(others, cases, "left") + np.searchsorted(others, cases, "right")
        return float(below_and_tied.sum()) / (2 * len(cases) * len(others))

    return figure


def macro_auc(probabilities: Probabilities, labels: Labels) -> float | None:
    """The mean of the areas of each class against the rest, over the classes that have one; None if none has."""
    areas = [auc_of(name)(probabilities, labels) for name in range(probabilities.shape[1])]
    defined = [area for area in areas if area is not None]
    return sum(defined) / len(defined) if defined else None


def accuracy(probabilities: Probabilities, labels: Labels) -> float | None:
    """The share of cases whose likeliest class is the true one."""
    return float((probabilities.argmax(axis=1) == labels).mean()) if len(labels) else None


def sensitivity_of(name: int) -> Figure:
    """The share of the cases of class `name` that are called so."""

    def figure(probabilities: Probabilities, labels: Labels) -> float | None:
        return accuracy(probabilities[labels == name], labels[labels == name])

    return figure


def specificity_of(name: int) -> Figure:
    """The share of the other cases that are not called class `name`."""

    def figure(probabilities: Probabilities, labels: Labels) -> float | None:
        called = probabilities[labels != name].argmax(axis=1) == name
        return float((~called).mean()) if len(called) else None

    return figure


def confusion_of(probabilities: Probabilities, labels: Labels) -> NDArray[np.int64]:
    """Cases [C, C]: rows are the truth, columns the likeliest class."""
    classes = probabilities.shape[1]
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return counts


def bootstrap(
    figure: Figure,
    models: Probabilities,
    labels: Labels,
    patients: Patients | None = None,
    *,
    seed: int = 0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """A figure with its percentile interval over resampled patients (Efron and Tibshirani 1993, chapter 13).

    A resample that lacks a class which the cases have is left out. A figure that is 0 or 1 on all resamples, which
    therefore cannot doubt it, gets the bound of `area_interval` with the patients of the rarest class.

    Args:
        models: probabilities [n, C] of one model, or [m, n, C] of several whose figures are averaged.
        labels: [n].
        patients: [n]; without them each case is a patient of its own.

    Returns:
        None where the cases do not define the figure, or half of the resamples or more had to be left out.
    """
    value = _mean_of(figure, models, labels)
    if value is None:
        return None
    drawn = [
        _mean_of(figure, models[..., chosen, :], labels[chosen])
        for chosen in _resamples(labels, patients, seed, resamples)
    ]
    known = _known(drawn, resamples)
    if known is None:
        return None
    if value in (0, 1) and (known == value).all():
        return area_interval(value, 0.0, _rarest(labels, patients), level)
    return Interval(value, *_ends(known, level))


def bootstrap_difference(
    figure: Figure,
    first: Probabilities,
    second: Probabilities,
    labels: Labels,
    patients: Patients | None = None,
    *,
    seed: int = 0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Difference | None:
    """The figures of two models (or means of several) on the same cases compared, both on each resample.

    Arguments and None as in `bootstrap`. The p is twice the smaller share of resamples on either side of no
    difference, with one added to both counts: never below 2 / (resamples + 1).
    """

    def apart(chosen: NDArray[np.intp]) -> float | None:
        of_first = _mean_of(figure, first[..., chosen, :], labels[chosen])
        of_second = _mean_of(figure, second[..., chosen, :], labels[chosen])
        return None if of_first is None or of_second is None else of_first - of_second

    value = apart(np.arange(len(labels)))
    if value is None:
        return None
    known = _known([apart(chosen) for chosen in _resamples(labels, patients, seed, resamples)], resamples)
    if known is None:
        return None
    fewer = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return Difference(value, *_ends(known, level), min(1.0, 2 * (fewer + 1) / (len(known) + 1)))


def _mean_of(figure: Figure, models: Probabilities, labels: Labels) -> float | None:
    found = [figure(each, labels) for each in (models if models.ndim == 3 else models[None])]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if found and len(known) == len(found) else None


def _resamples(labels: Labels, patients: Patients | None, seed: int, resamples: int) -> Iterator[NDArray[np.intp]]:
    """The cases of as many patients as there are, drawn with replacement; only those draws that have every class."""
    owners = numbered(patients, len(labels))
    number, classes = int(owners.max(initial=-1)) + 1, len(np.unique(labels))
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        times = np.bincount(generator.integers(0, number, number), minlength=number)
        chosen = np.repeat(np.arange(len(labels)), times[owners])
        if len(np.unique(labels[chosen])) == classes:
            yield chosen


def _known(drawn: list[float | None], resamples: int) -> NDArray[np.float64] | None:
    known = np.array([value for value in drawn if value is not None])
    return known if 2 * len(known) > resamples else None


def _rarest(labels: Labels, patients: Patients | None) -> int:
    """Patients of the class that has fewest."""
    owners = numbered(patients, len(labels))
    return min(len(np.unique(owners[labels == name])) for name in np.unique(labels))


def _ends(known: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
