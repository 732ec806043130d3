"""From counts pooled over sites back to figures, with their intervals; no torch.

Counts lie flat in the order of `count_fields`, as a layout names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crypto.layout import CountField, Counts, named_counts
from crypto.parameters import LOSS_UNIT
from models.statistics import LEVEL, Interval, area_interval, auc_variance, histogram_auc_interval, wilson, wilson_ends

__all__ = [
    "ClassFigures",
    "Interval",
    "PooledFigures",
    "Roc",
    "count_fields",
    "figures",
    "figures_of_counts",
    "roc_of_histograms",
    "score_edges",
    "tied_margin",
]

Curve = NDArray[np.float64]

_SHAPES: Final = "of C classes, cases and loss are one number each, confusion is [C, C] and scores is [C, 2, bins]"
#: Logits between which bins lie: float32 probabilities reach down to 1e-38, a class's own or those of the others.
_LOWEST, _HIGHEST = -87.5, 87.5
#: Bins are even up to about this distance in logits from the class's even chance, and grow with it beyond.
_EVEN: Final = 0.2


def count_fields(classes: int, bins: int) -> tuple[CountField, ...]:
    """What each site counts on its validation cases, C classes and B bins:

    - `cases` ()
    - `loss` (): summed cross entropy of the cases, unweighted, in thousandths
    - `confusion` (C, C): rows are the truth, columns the prediction
    - `scores` (C, 2, B): histograms of each class's log-odds against the others in the bins of `score_edges(C, B)`,
      first for the cases of that class, then for all others
    """
    return (
        CountField("cases", ()),
        CountField("loss", ()),
        CountField("confusion", (classes, classes)),
        CountField("scores", (classes, 2, bins)),
    )


def check_fields(fields: Sequence[CountField]) -> None:
    """Raise where fields have the names of `count_fields` and other shapes; any may lack, and others be there.

    Raises:
        ValueError: naming the field.
    """
    shapes = {field.name: field.shape for field in fields}
    classes, bins = shapes.get("confusion", shapes.get("scores", (2,)))[:1], shapes.get("scores", ())[-1:]
    for field in count_fields(*classes or (0,), *bins or (0,)):
        if shapes.get(field.name, field.shape) != field.shape:
            raise ValueError(f"the counts {field.name} have the shape {list(shapes[field.name])}: {_SHAPES}")


def score_edges(classes: int, bins: int) -> Curve:
    """The edges [bins + 1] of a score histogram's bins, in logits, rising from -inf to inf; a bin has its lower edge,
    not its upper.

    Networks pile their probabilities up near 0 and 1, and a fresh one near 1/C: even bins would tie most pairs there.
    These are even in the asinh of the distance in logits from 1/C: finest around it, and a constant share of it wide
    beyond. They reach as far up as down, as `models.statistics.log_odds` does.
    """
    centre = -np.log(classes - 1)
    low, high = np.arcsinh((np.array([_LOWEST, _HIGHEST]) - centre) / _EVEN)
    edges: Curve = centre + _EVEN * np.sinh(np.linspace(low, high, bins + 1))
    edges[[0, -1]] = -np.inf, np.inf
    return edges


def tied_margin(positives: Counts, negatives: Counts) -> float:
    """How far the exact scores' area can be from that of the histograms [bins]: half the share of pairs in one bin."""
    cases, others = int(positives.sum()), int(negatives.sum())
    return float(np.dot(positives / cases, negatives / others)) / 2 if cases and others else 0.0


@dataclass(frozen=True, slots=True)
class Roc:
    """Operating points [k] from (0, 0) to (1, 1); `low` and `high` are the band's edges at `false_positive_rate`."""

    false_positive_rate: Curve
    sensitivity: Curve
    low: Curve
    high: Curve


def roc_of_histograms(positives: Counts, negatives: Counts, level: float = LEVEL) -> Roc | None:
    """The ROC curve of two score histograms [bins] with a band; None where either is empty.

    The band joins, over the thresholds, the corners of rectangles that each hold the true operating point at `level`:
    Wilson's intervals of both rates, each at the root of `level`, as positives and negatives are sampled apart.
    """
    cases, others = int(positives.sum()), int(negatives.sum())
    if not cases or not others:
        return None
    used = np.flatnonzero(positives + negatives)[::-1]
    hits, alarms = (np.array([0, *np.cumsum(histogram[used])]) for histogram in (positives, negatives))
    above, rates = hits / cases, alarms / others
    lowest, highest = wilson_ends(above, cases, np.sqrt(level))
    left, right = wilson_ends(rates, others, np.sqrt(level))
    return Roc(rates, above, np.interp(rates, right, lowest), np.interp(rates, left, highest))


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Of one class against the rest; None: no such cases. `auc_margin`: the most that binning moved the area."""

    cases: int
    auc: Interval | None
    auc_margin: float
    sensitivity: Interval | None
    specificity: Interval | None


@dataclass(frozen=True, slots=True)
class PooledFigures:
    """What a page or a report prints of counts. None: the counts do not tell.

    `loss` is a mean in nats. The macro AUC is the mean of the classes that have one; its interval is wider than
    need be, as if the classes' errors went together, since histograms do not tell how far they do.
    """

    cases: int
    loss: float | None
    accuracy: Interval | None
    macro_auc: Interval | None
    macro_sensitivity: float | None
    macro_specificity: float | None
    classes: tuple[ClassFigures, ...]


def figures_of_counts(counts: Iterable[int], fields: Sequence[CountField], level: float = LEVEL) -> PooledFigures:
    """The `figures` of flat counts.

    Raises:
        Malformed: another number of counts than the fields have.
        ValueError: counts of other fields than `count_fields` makes.
    """
    named = named_counts(counts, fields)
    if set(named) != {"cases", "loss", "confusion", "scores"}:
        raise ValueError(f"figures need cases, loss, confusion and scores, not {', '.join(named) or 'nothing'}")
    return figures(named, level)


def figures(counts: Mapping[str, Counts], level: float = LEVEL) -> PooledFigures:
    """The figures of pooled counts by name, with Wilson's intervals of shares and DeLong's of areas.

    A field that is not there is one of zeros, whose figures are None. Cases are taken as independent: which of them are
    one patient's, the counts do not tell.
    """
    number = max((len(counts[name]) for name in ("confusion", "scores") if name in counts), default=0)
    cases, loss, confusion, scores = (
        counts.get(field.name, np.zeros(field.shape, np.int64)) for field in count_fields(number, bins=2)
    )
    classes = tuple(_class_figures(name, confusion, scores, level) for name in range(number))
    return PooledFigures(
        cases=int(cases),
        loss=int(loss) / LOSS_UNIT / int(cases) if cases and "loss" in counts else None,
        accuracy=wilson(int(np.trace(confusion)), int(confusion.sum()), level),
        macro_auc=_macro_auc(scores, level),
        macro_sensitivity=_mean([each.sensitivity for each in classes]),
        macro_specificity=_mean([each.specificity for each in classes]),
        classes=classes,
    )


def _class_figures(name: int, confusion: Counts, scores: Counts, level: float) -> ClassFigures:
    positives, negatives = scores[name]
    cases, total = int(confusion[name].sum()), int(confusion.sum())
    alarms = int(confusion[:, name].sum() - confusion[name, name])
    return ClassFigures(
        cases=cases,
        auc=histogram_auc_interval(positives, negatives, level),
        auc_margin=tied_margin(positives, negatives),
        sensitivity=wilson(int(confusion[name, name]), cases, level),
        specificity=wilson(total - cases - alarms, total - cases, level),
    )


def _macro_auc(scores: Counts, level: float) -> Interval | None:
    found = [(each, pair) for pair in scores if (each := auc_variance(*pair)) is not None]
    if not found:
        return None
    # The deviation of a mean is at most the mean of the deviations.
    deviation = np.mean([np.sqrt(variance) for (_, variance), _ in found])
    smaller = min(int(side.sum()) for _, pair in found for side in pair)
    return area_interval(float(np.mean([area for (area, _), _ in found])), float(deviation**2), smaller, level)


def _mean(intervals: Sequence[Interval | None]) -> float | None:
    known = [interval.value for interval in intervals if interval is not None]
    return sum(known) / len(known) if known else None
