"""ROC curves of scored cases, and bands that say how much they owe to the cases at hand; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.statistics import LEVEL, log_odds, numbered

Curve = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: False-positive rates at which curves are averaged, and bands given.
GRID: Final = np.linspace(0, 1, 201)
DRAWS: Final = 200


class Judged(Protocol):
    """A model's class probabilities [n, C] on cases with labels [n], and whose they are [n]."""

    @property
    def probabilities(self) -> NDArray[np.floating]: ...
    @property
    def labels(self) -> NDArray[np.integer]: ...
    @property
    def patients(self) -> NDArray[np.str_]: ...


def roc_points(scores: NDArray[np.floating], positive: Flags) -> tuple[Curve, Curve]:
    """False-positive rates and sensitivities [k] of scores [n], from (0, 0) to (1, 1), equal scores together.

    Both kinds of cases have to be there.
    """
    # Ranks, as the log-odds of sure models may be infinite, and infinities have no difference.
    ranks = np.unique(scores, return_inverse=True)[1]
    falling = np.argsort(-ranks, kind="stable")
    last_of_ties = np.r_[np.flatnonzero(np.diff(ranks[falling])), len(ranks) - 1]
    hits = np.r_[0, np.cumsum(positive[falling])[last_of_ties]] / positive.sum()
    false = np.r_[0, np.cumsum(~positive[falling])[last_of_ties]] / (~positive).sum()
    return np.asarray(false, np.float64), np.asarray(hits, np.float64)


def roc_on_grid(judged: Judged, name: int, chosen: NDArray[np.integer] | None = None) -> Curve:
    """Sensitivity to class `name` at each false-positive rate of `GRID`, of all cases or of the chosen ones.

    Not a number where a kind of case is missing.
    """
    chosen = np.arange(len(judged.labels)) if chosen is None else chosen
    positive = judged.labels[chosen] == name
    if positive.all() or not positive.any():
        return np.full(len(GRID), np.nan)
    false, hits = roc_points(log_odds(judged.probabilities[chosen], name), positive)
    # At a step the curve stands straight up; np.interp takes its upper end there, as the best that rate allows.
    return np.asarray(np.interp(GRID, false, hits), np.float64)


def roc_band(tests: Sequence[Judged], name: int, draws: int = DRAWS, level: float = LEVEL) -> tuple[Curve, Curve]:
    """The ends of the mean curve's middle share `level` when whole patients are drawn anew in each test, [GRID] each.

    Samples that have no case of the class, or none but such, are passed over; with none left, both are not a number.
    """
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(draws):
        curves = [roc_on_grid(test, name, _drawn(test, rng)) for test in tests]
        if not any(np.isnan(curve).any() for curve in curves):
            samples.append(np.mean(curves, axis=0))
    if not samples:
        return np.full(len(GRID), np.nan), np.full(len(GRID), np.nan)
    low, high = np.quantile(samples, ((1 - level) / 2, (1 + level) / 2), axis=0)
    return low, high


def _drawn(test: Judged, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of the cases of as many patients as there are, drawn with replacement."""
    owner = numbered(test.patients, len(test.labels))
    order = np.argsort(owner, kind="stable")
    of_patient = np.split(order, np.cumsum(np.bincount(owner))[:-1])
    return np.concatenate([of_patient[patient] for patient in rng.integers(len(of_patient), size=len(of_patient))])
