"""How sure a figure is: confidence intervals, and paired tests of two models on the same cases. No torch here.

Scores are ranked only, so log-odds and the bins of a histogram are treated alike: a histogram's bin is a tie.
Where a patient has several cases, the functions that take `patients` treat the patient as the unit that was sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, expit, logit, ndtr, ndtri, stdtr, stdtrit

Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]
Shares = NDArray[np.float64]
Patients: TypeAlias = ArrayLike
"""For each case whose it is: [n], of anything that sorts."""

LEVEL: Final = 0.95
_NO_SPREAD: Final = 1e-18  # a variance below this is rounding
_NO_DEVIATION: Final = 1e-12  # of figures over seeds: below this it is, too


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the ends of its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def to_json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Difference(Interval):
    """The first figure less the second, and the two-sided p of there being none."""

    p: float

    def __str__(self) -> str:
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f}, {p})"


# --- shares: sensitivity, specificity, accuracy


def wilson(right: float, cases: float, level: float = LEVEL) -> Interval | None:
    """Wilson's score interval of the share `right` of `cases` independent cases (JASA 1927); None without cases."""
    if cases <= 0:
        return None
    return _score_interval(right / cases, cases, level)


def share_interval(right: Flags, patients: Patients | None = None, level: float = LEVEL) -> Interval | None:
    """Wilson's interval of the share that is right [n], with as many cases as they are worth.

    Several cases of a patient resemble each other: their number is divided by the design effect, as Korn and Graubard
    (Survey Methodology, 1998) do for clustered samples. Where all or none are right, only the patients are counted.
    None without cases.
    """
    cases = len(right)
    if patients is None or cases == 0:
        return wilson(int(right.sum()), cases, level)
    share, owners = float(right.mean()), numbered(patients, cases)
    number = int(owners.max()) + 1
    totals = np.bincount(owners, weights=right - share)
    variance = number / max(number - 1, 1) * float((totals**2).sum()) / cases**2
    worth = share * (1 - share) / variance if variance > _NO_SPREAD else number
    worth = min(worth, cases)
    return _score_interval(share, worth, level)


def wilson_ends(shares: Shares, cases: float, level: float = LEVEL) -> tuple[Shares, Shares]:
    """The ends of Wilson's intervals of several shares [k] of the same cases, whose number need not be whole."""
    z2 = _quantile(level) ** 2
    centre = (shares + z2 / (2 * cases)) / (1 + z2 / cases)
    half = np.sqrt(z2 * (shares * (1 - shares) / cases + z2 / (4 * cases**2))) / (1 + z2 / cases)
    return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)


def _score_interval(share: float, cases: float, level: float) -> Interval:
    low, high = wilson_ends(np.array(share), cases, level)
    return Interval(share, float(low), float(high))


def mcnemar(first: Flags, second: Flags, level: float = LEVEL) -> Difference | None:
    """Accuracies compared on the same independent cases [n], by where each was right; None without cases.

    The p is the exact binomial one of the cases on which they differ (McNemar 1947), the interval that of Agresti and
    Min (Statistics in Medicine, 2005): half a case is added to each of the four cells.
    """
    cases = len(first)
    if cases == 0:
        return None
    better, worse = int((first & ~second).sum()), int((second & ~first).sum())
    p = min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5))) if better + worse else 1.0
    b, c, n = better + 0.5, worse + 0.5, cases + 2
    half = _quantile(level) * np.sqrt((b + c) - (b - c) ** 2 / n) / n
    centre = (b - c) / n
    return Difference((better - worse) / cases, float(centre - half), float(centre + half), p)


# --- areas under the ROC curve


def log_odds(probabilities: NDArray[np.floating], name: int) -> NDArray[np.float64]:
    """How likely class `name` is against all others, [n] of probabilities [n, C], in logits; certainty is infinite.

    What scores are ranked by: single precision resolves 1e-38 near 0 and only 6e-8 below 1, so that the probabilities
    themselves tie where a model is sure of the class, though those of the other classes still tell.
    """
    others = np.delete(probabilities, name, axis=-1).sum(axis=-1, dtype=np.float64)
    with np.errstate(divide="ignore"):
        found: NDArray[np.float64] = np.log(probabilities[..., name].astype(np.float64)) - np.log(others)
    return found


def tallied(scores: NDArray[np.floating], positive: Flags) -> tuple[Counts, Counts]:
    """Scores [n] as two histograms over their distinct values, rising: of the positive cases, and of the others."""
    _, places = np.unique(scores, return_inverse=True)
    bins = int(places.max(initial=-1)) + 1
    return np.bincount(places[positive], minlength=bins), np.bincount(places[~positive], minlength=bins)


def auc_interval(scores: NDArray[np.floating], positive: Flags, level: float = LEVEL) -> Interval | None:
    """The area under the ROC curve of scores [n], with DeLong's interval; None without cases on either side."""
    return histogram_auc_interval(*tallied(scores, positive), level)


def histogram_auc_interval(positives: Counts, negatives: Counts, level: float = LEVEL) -> Interval | None:
    """The same of two score histograms [bins]: exact for scores that are known to their bin. None if one is empty."""
    spread = auc_variance(positives, negatives)
    if spread is None:
        return None
    return area_interval(*spread, int(min(positives.sum(), negatives.sum())), level)


def auc_variance(positives: Counts, negatives: Counts) -> tuple[float, float] | None:
    """The area and its variance by DeLong, DeLong and Clarke-Pearson (Biometrics, 1988) from histograms [bins].

    The structural components are the same for all cases of a bin, and come from cumulative counts: with a bin for each
    distinct score this is the fast algorithm of Sun and Xu (IEEE Signal Processing Letters, 2014), whose mid-ranks
    are these counts. The variance is NaN with a single case on a side. None where a side has none.
    """
    if not positives.sum() or not negatives.sum():
        return None
    of_positive, of_negative = _placements(positives, negatives)
    area = float(np.average(of_positive, weights=positives))
    return area, _variance_of_mean(of_positive, positives) + _variance_of_mean(of_negative, negatives)


def area_interval(area: float, variance: float, smaller: int, level: float = LEVEL) -> Interval:
    """The interval of an area: normal on the logit scale, so that it ends within 0 and 1 (Pepe 2003).

    Without a usable variance (all pairs in order, or a single case on one side) it is Wilson's with as many cases as
    the `smaller` side has: no area varies more than area (1 - area) / smaller (Birnbaum and Klose 1957).
    """
    if not variance > _NO_SPREAD or not 0 < area < 1:
        return _score_interval(area, smaller, level)
    half = _quantile(level) * np.sqrt(variance) / (area * (1 - area))
    return Interval(area, float(expit(logit(area) - half)), float(expit(logit(area) + half)))


def delong_test(
    first: NDArray[np.floating], second: NDArray[np.floating], positive: Flags, level: float = LEVEL
) -> Difference | None:
    """Areas of two models' scores [n] of the same independent cases compared, by DeLong's test.

    None without two cases on each side, or where the areas differ and nothing varies (all against none in order).
    """
    if min(positive.sum(), (~positive).sum()) < 2:
        return None
    apart = _case_placements(first, positive) - _case_placements(second, positive)
    sides = apart[positive], apart[~positive]
    value = float(sides[0].mean())
    deviation = float(np.sqrt(sum(side.var(ddof=1) / len(side) for side in sides)))
    if deviation**2 <= _NO_SPREAD:
        return Difference(value, value, value, 1.0) if abs(value) < 1e-9 else None
    half = _quantile(level) * deviation
    return Difference(value, value - half, value + half, 2 * float(ndtr(-abs(value) / deviation)))


def _placements(positives: Counts, negatives: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For a case in each bin, by its side, the share of the other side's cases that it is in order with."""
    below = (np.cumsum(negatives) - negatives / 2) / negatives.sum()
    above = 1 - (np.cumsum(positives) - positives / 2) / positives.sum()
    return below, above


def _case_placements(scores: NDArray[np.floating], positive: Flags) -> NDArray[np.float64]:
    _, places = np.unique(scores, return_inverse=True)
    of_positive, of_negative = _placements(*tallied(scores, positive))
    return np.where(positive, of_positive[places], of_negative[places])


def _variance_of_mean(values: NDArray[np.float64], counts: Counts) -> float:
    cases = int(counts.sum())
    if cases < 2:
        return float("nan")
    mean = np.average(values, weights=counts)
    return float((counts * (values - mean) ** 2).sum()) / (cases - 1) / cases


# --- seeds, and several comparisons


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean over seeds (or folds) and Student's interval of it.

    Raises:
        ValueError: fewer than two values, whose spread nobody knows.
    """
    mean, error, quantile = _student(values, level)
    return Interval(mean, mean - quantile * error, mean + quantile * error)


def mean_difference(first: Sequence[float], second: Sequence[float], level: float = LEVEL) -> Difference | None:
    """The mean difference of figures of the same seeds, seed by seed, with Student's interval and paired t-test.

    None where all seeds have the same difference, other than 0: nothing varies, so that nothing can be tested.

    Raises:
        ValueError: fewer than two seeds, or not as many on both sides.
    """
    apart = [one - other for one, other in zip(first, second, strict=True)]
    mean, error, quantile = _student(apart, level)
    if error < _NO_DEVIATION:
        return Difference(0.0, 0.0, 0.0, 1.0) if abs(mean) < _NO_DEVIATION else None
    p = 2 * float(stdtr(len(apart) - 1, -abs(mean) / error))
    return Difference(mean, mean - quantile * error, mean + quantile * error, p)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p of each of several comparisons in one table (Scandinavian Journal of Statistics, 1979)."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = largest
    return adjusted


def numbered(patients: Patients | None, cases: int) -> NDArray[np.intp]:
    """The owner of each case as a number from 0, without gaps; each case its own where `patients` is None.

    Raises:
        ValueError: not one patient a case.
    """
    if patients is None:
        return np.arange(cases)
    owners = np.unique(np.asarray(patients), return_inverse=True)[1]
    if owners.shape != (cases,):
        raise ValueError(f"{owners.size} patients do not belong to {cases} cases: give one a case")
    return owners


def _student(values: Sequence[float], level: float) -> tuple[float, float, float]:
    """Mean, its standard error, and how many of these the interval reaches to each side."""
    if len(values) < 2:
        raise ValueError(f"an interval over seeds takes two or more, not {len(values)}: run more seeds")
    error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(np.mean(values)), error, float(stdtrit(len(values) - 1, (1 + level) / 2))


def _quantile(level: float) -> float:
    return float(ndtri((1 + level) / 2))
