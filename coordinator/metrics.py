"""From the counts pooled over all sites to measures; numpy alone.

Counts are named in the layout: `cases` (), `loss` () in thousandths, `confusion` (C, C) with the truth in rows,
`scores` (C, 2, bins): for each class histograms over [0, 1] of its probability, first of its own cases, then of all
others.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from crypto.layout import Counts

_LOSS_UNIT: Final = 1000


def measures(counts: dict[str, Counts]) -> dict[str, Any]:
    """What the counts say, as JSON; what they do not tell (a class without cases, no such field) is None or left out.

    `loss` and `accuracy` are means over all sites' cases, `sensitivity`, `specificity` and `auc` have one value a
    class, `macro_auc` is the mean over the classes that have one.
    """
    found: dict[str, Any] = {}
    cases = int(counts["cases"]) if "cases" in counts else None
    if cases is not None:
        found["cases"] = cases
    if cases and "loss" in counts:
        found["loss"] = int(counts["loss"]) / _LOSS_UNIT / cases
    if "confusion" in counts:
        found |= _of_confusion(counts["confusion"])
    if "scores" in counts:
        areas = [histogram_auc(positive, negative) for positive, negative in counts["scores"]]
        defined = [area for area in areas if area is not None]
        found |= {"auc": areas, "macro_auc": sum(defined) / len(defined) if defined else None}
    return found


def histogram_auc(positive: Counts, negative: Counts) -> float | None:
    """Area under the ROC curve from score histograms [bins]: the chance that a case of the class scores above another,
    cases in one bin counting one half. None without cases on either side.
    """
    pairs = int(positive.sum()) * int(negative.sum())
    if pairs == 0:
        return None
    lower = np.cumsum(negative) - negative
    return float(np.dot(positive, lower + negative / 2) / pairs)


def _of_confusion(confusion: Counts) -> dict[str, Any]:
    right, truth, called, total = np.diag(confusion), confusion.sum(1), confusion.sum(0), int(confusion.sum())
    others = total - truth
    return {
        "accuracy": _share(int(right.sum()), total),
        "sensitivity": [_share(*pair) for pair in zip(right.tolist(), truth.tolist(), strict=True)],
        "specificity": [
            _share(*pair) for pair in zip((others - called + right).tolist(), others.tolist(), strict=True)
        ],
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
