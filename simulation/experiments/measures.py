"""The figures of papers' tables, each as a function of one unit's result.

Where a unit gives several models (each hospital by itself) a figure of its models is their mean. None: no such figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.bootstrap import (
    Figure,
    Labels,
    Probabilities,
    auc_of,
    confusion_of,
    macro_auc,
    sensitivity_of,
    specificity_of,
)
from models.bootstrap import accuracy as share_right
from models.calibration import cross_entropy
from simulation.experiments.describe import Measure
from simulation.experiments.results import Examined, Predictions, Split, UnitResult


def accuracy(split: Split = "test") -> Measure:
    """Share of cases whose likeliest class is the true one."""
    return _measure(share_right, split)


def loss() -> Measure:
    """Mean cross entropy of the test cases."""
    return _measure(cross_entropy)


def auc(label: str | None = None, sites: Sequence[str] = ()) -> Measure:
    """Area under the ROC curve of a class against the rest, or the mean over the classes."""
    if label is None:
        return _measure(macro_auc, sites=sites)
    return lambda result: _measure(auc_of(result.classes.index(label)), sites=sites)(result)


def recall(label: str, split: Split = "test", sites: Sequence[str] = ()) -> Measure:
    """Sensitivity: share of a class's cases that were given it, at some hospitals or at all."""
    return lambda result: _measure(sensitivity_of(result.classes.index(label)), split, sites)(result)


def specificity(label: str, split: Split = "test", sites: Sequence[str] = ()) -> Measure:
    """Share of the cases of other classes that were not given this one, at some hospitals or at all."""
    return lambda result: _measure(specificity_of(result.classes.index(label)), split, sites)(result)


def macro_recall(split: Split = "test") -> Measure:
    """The mean of the classes' sensitivities."""
    return lambda result: _mean(recall(label, split)(result) for label in result.classes)


def macro_specificity(split: Split = "test") -> Measure:
    """The mean of the classes' specificities."""
    return lambda result: _mean(specificity(label, split)(result) for label in result.classes)


def precision(label: str) -> Measure:
    """Share of the cases that were given a class that are of it."""

    def measure(result: UnitResult) -> float | None:
        number = result.classes.index(label)

        def figure(probabilities: Probabilities, labels: Labels) -> float | None:
            given = labels[probabilities.argmax(axis=1) == number]
            return float((given == number).mean()) if len(given) else None

        return _measure(figure)(result)

    return measure


def over_sites(name: Literal["accuracy", "loss"]) -> Measure:
    """The mean over hospitals of a figure on each one's own test cases, each hospital counting alike."""
    figure = share_right if name == "accuracy" else cross_entropy

    def measure(result: UnitResult) -> float | None:
        sites = sorted({str(site) for model in result.models.values() for site in model.test.sites})
        return _mean(_measure(figure, sites=[site])(result) for site in sites)

    return measure


def of_model(name: str, measure: Measure) -> Measure:
    """The figure of one of several models alone."""

    def chosen(result: UnitResult) -> float | None:
        return measure(only(result, name)) if name in result.models else None

    return chosen


def only(result: UnitResult, name: str) -> UnitResult:
    """The result as if the unit had given that model alone."""
    return UnitResult(**{**vars(result), "models": {name: result.models[name]}})


def best_validation(name: Literal["accuracy", "loss"]) -> Measure:
    """The highest accuracy or the lowest loss on the validation cases that any round's training reached."""

    def measure(result: UnitResult) -> float | None:
        trained = [point for point in result.curve if point.round > 0]
        values = [value for point in trained if (value := getattr(point, name)) is not None]
        if not values:
            return None
        return float(max(values) if name == "accuracy" else min(values))

    return measure


def rounds_run() -> Measure:
    """Rounds until the last one, which early stopping may have brought forward."""
    return lambda result: float(result.curve[-1].round) if result.curve else None


def seconds(phase: str) -> Measure:
    """How long a phase took, as the unit measured it."""
    return lambda result: result.seconds.get(phase)


def confusion(predictions: Predictions) -> NDArray[np.int64]:
    """Cases [C, C]: rows are the truth, columns the likeliest class."""
    return confusion_of(predictions.probabilities, predictions.labels)


def _measure(figure: Figure, split: Split = "test", sites: Sequence[str] = ()) -> Measure:
    def of_model(examined: Examined) -> float | None:
        found: Predictions | None = getattr(examined, split)
        found = found.at(*sites) if found is not None and sites else found
        return figure(found.probabilities, found.labels) if found is not None and len(found) else None

    return lambda result: _mean(of_model(examined) for examined in result.models.values())


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
