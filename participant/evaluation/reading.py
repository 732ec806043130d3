"""Where readers lie in the plot of a class: each by itself, their average, and what most of them said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.statistics import Interval, share_interval
from participant.evaluation.predictions import Predictions
from participant.evaluation.readers import Readers

AVERAGE, MAJORITY = "average reader", "majority of readers"


@dataclass(frozen=True, slots=True)
class ReaderPoint:
    """A reader's sensitivity to a class and specificity against the others; None: no such cases were read.

    cases: that were read; None where a table gave the rates, which then have no intervals.
    """

    name: str
    sensitivity: Interval | float | None
    specificity: Interval | float | None
    cases: int | None = None

    @property
    def rates(self) -> tuple[float, float] | None:
        """(sensitivity, specificity), where both are known."""
        found = [each.value if isinstance(each, Interval) else each for each in (self.sensitivity, self.specificity)]
        return None if found[0] is None or found[1] is None else (found[0], found[1])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ReaderPoints:
    """All readers of one class. majority: of three readers or more who said what each case is."""

    single: tuple[ReaderPoint, ...]
    average: ReaderPoint | None
    majority: ReaderPoint | None

    @property
    def all(self) -> tuple[ReaderPoint, ...]:
        return (*self.single, *(each for each in (self.average, self.majority) if each is not None))


def reader_points(readers: Readers, predictions: Predictions, label: int) -> ReaderPoints | None:
    """The readers' points in the plot of class `label`; None without any."""
    single = [_from_calls(name, calls, predictions, label) for name, calls in sorted(readers.calls.items())]
    single += [ReaderPoint(name, *rates[label]) for name, rates in sorted(readers.rates.items()) if label in rates]
    if not single:
        return None
    majority = _majority(readers.calls, label) if len(readers.calls) > 2 else {}
    return ReaderPoints(
        tuple(single),
        _average(tuple(single)),
        _from_flags(MAJORITY, majority, predictions, label) if majority else None,
    )


def _from_calls(name: str, calls: Mapping[int, int], predictions: Predictions, label: int) -> ReaderPoint:
    return _from_flags(name, {place: called == label for place, called in calls.items()}, predictions, label)


def _from_flags(name: str, said: Mapping[int, bool], predictions: Predictions, label: int) -> ReaderPoint:
    """Of who said, by place of the case, whether it is of the class; a patient's cases count together."""
    places: NDArray[np.intp] = np.array(sorted(said), np.intp)
    flags = np.array([said[place] for place in places.tolist()], np.bool_)
    positive, patients = predictions.labels[places] == label, predictions.patients[places]
    return ReaderPoint(
        name,
        share_interval(flags[positive], patients[positive]),
        share_interval(~flags[~positive], patients[~positive]),
        len(places),
    )


def _average(single: tuple[ReaderPoint, ...]) -> ReaderPoint | None:
    """Sensitivities and specificities averaged, each reader counting alike; of one reader there is none."""
    known = [rates for each in single if (rates := each.rates) is not None]
    if len(known) < 2:
        return None
    sensitivity, specificity = (float(value) for value in np.mean(known, axis=0))
    return ReaderPoint(AVERAGE, sensitivity, specificity)


def _majority(calls: Mapping[str, Mapping[int, int]], label: int) -> dict[int, bool]:
    """By case, whether more than half of its readers, of whom there are three or more, called it the class."""
    votes: dict[int, list[bool]] = {}
    for of_reader in calls.values():
        for place, called in of_reader.items():
            votes.setdefault(place, []).append(called == label)
    return {place: 2 * sum(said) > len(said) for place, said in votes.items() if len(said) > 2}
