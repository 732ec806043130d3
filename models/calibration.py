"""Whether probabilities can be taken at their word: proper scores, and how often what was predicted came true.

All are figures for `models.bootstrap`. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.bootstrap import Figure, Labels, Probabilities
from models.statistics import Flags, Interval, Patients, share_interval

BINS: Final = 10
SMALLEST_PROBABILITY: Final = 1e-7  # bounds a single case's loss at 16.1


def losses(probabilities: Probabilities, labels: Labels) -> NDArray[np.float64]:
    """Each case's cross entropy [n] in nats, at most 16.1."""
    of_truth = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.clip(of_truth, SMALLEST_PROBABILITY, 1))


def cross_entropy(probabilities: Probabilities, labels: Labels) -> float | None:
    """The mean of the cases' losses, in nats."""
    return float(losses(probabilities, labels).mean()) if len(labels) else None


def brier(probabilities: Probabilities, labels: Labels) -> float | None:
    """Brier's score of all classes (Monthly Weather Review, 1950): squared errors added up over them, from 0 to 2."""
    if not len(labels):
        return None
    came = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - came) ** 2).sum(axis=1).mean())


def brier_of(name: int) -> Figure:
    """Brier's score of class `name` against the rest: the mean squared error of its probability, from 0 to 1."""

    def figure(probabilities: Probabilities, labels: Labels) -> float | None:
        if not len(labels):
            return None
        return float(((probabilities[:, name] - (labels == name)) ** 2).mean(dtype=np.float64))

    return figure


def calibration_error(probabilities: Probabilities, labels: Labels) -> float | None:
    """The expected calibration error of the likeliest class (Guo et al. 2017), in ten bins of even width.

    Over the bins, weighted by their cases: how far the share called right is from the mean probability with which they
    were called. Chance alone makes it larger than 0, the more so the fewer the cases.
    """
    if not len(labels):
        return None
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    return sum(
        abs(float(right[inside].mean()) - float(sure[inside].mean(dtype=np.float64))) * int(inside.sum()) / len(labels)
        for inside in _bins(sure)
    )


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Cases whose probability lies in one tenth: its mean, and the share of them in which the predicted is true."""

    cases: int
    predicted: float
    observed: Interval


def reliability(
    predicted: NDArray[np.floating], came: Flags, patients: Patients | None = None
) -> tuple[ReliabilityBin, ...]:
    """The points of a reliability diagram, of probabilities [n] and whether that class was the true one [n].

    Ten bins of even width, those without cases left out. With `patients`, several cases of one do not count as
    independent.
    """
    owners = None if patients is None else np.asarray(patients)
    found = []
    for inside in _bins(predicted):
        observed = share_interval(came[inside], None if owners is None else owners[inside])
        if observed is not None:
            mean = float(predicted[inside].mean(dtype=np.float64))
            found.append(ReliabilityBin(int(inside.sum()), mean, observed))
    return tuple(found)


def _bins(predicted: NDArray[np.floating]) -> Iterator[Flags]:
    """Which cases [n] lie in each bin that has any; a bin has its lower end, the last one both."""
    places = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    for place in np.unique(places):
        yield places == place
