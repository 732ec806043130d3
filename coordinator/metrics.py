"""From the counts pooled over all sites to measures, as JSON, in words and as curves.

What they are is computed by `models.pooled`, numbers without torch, as sites and simulations do (docs/decisions/0011).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from crypto.layout import Counts
from models.pooled import Interval, Roc, check_fields, figures, roc_of_histograms

__all__ = ["BY_CLASS", "Roc", "at", "check_fields", "class_names", "in_words", "measures", "roc_curves"]

#: The measures that have one value a class, as `measures` names them, and what people call them.
BY_CLASS: Final = {"auc": "AUC", "sensitivity": "Sensitivity", "specificity": "Specificity"}


def measures(counts: Mapping[str, Counts]) -> dict[str, Any]:
    """What the counts say, as JSON (docs/wire.md); what they do not tell, as of a class without cases, is None.

    `intervals` has [low, high] of 95 % for each measure that has one, in the measure's own shape.
    """
    found = figures(counts)
    whole = {"accuracy": found.accuracy, "macro_auc": found.macro_auc}
    by_class = {name: [getattr(each, name) for each in found.classes] for name in BY_CLASS}
    return {
        "cases": found.cases,
        "class_cases": [each.cases for each in found.classes],
        "loss": found.loss,
        **{name: _value(each) for name, each in whole.items()},
        **{name: [_value(each) for each in intervals] for name, intervals in by_class.items()},
        "macro_sensitivity": found.macro_sensitivity,
        "macro_specificity": found.macro_specificity,
        "auc_margin": [each.auc_margin for each in found.classes],
        "intervals": {name: _ends(each) for name, each in whole.items()}
        | {name: [_ends(each) for each in intervals] for name, intervals in by_class.items()},
    }


def in_words(found: Mapping[str, Any] | None, name: str, place: int | None = None) -> str:
    """A measure with its interval, as "0.906 (0.861 to 0.938)"; with `place`, that of the class there.

    Rounds measured before there were intervals have none. Empty where there is no such measure.
    """
    value, ends = at(found, name, place)
    if value is None:
        return ""
    return f"{value:.3f} ({ends[0]:.3f} to {ends[1]:.3f})" if ends else f"{value:.3f}"


def at(found: Mapping[str, Any] | None, name: str, place: int | None = None) -> tuple[float | None, list[float] | None]:
    """The same as numbers: the value, and the ends of its interval."""
    value, ends = ((each or {}).get(name) for each in (found, (found or {}).get("intervals")))
    if place is None:
        return value, ends
    return value[place] if value else None, ends[place] if ends else None


def class_names(recipe: Mapping[str, Any], classes: int) -> list[str]:
    """Of so many classes, from a study's recipe; numbers where it names others."""
    names = recipe.get("network", {}).get("classes")
    if isinstance(names, list) and len(names) == classes:
        return [str(name) for name in names]
    return [f"class {number}" for number in range(1, classes + 1)]


def roc_curves(scores: Sequence[Any]) -> list[Roc | None]:
    """Of each class, from the pooled `scores` [C, 2, bins]; None without cases on either side."""
    return [roc_of_histograms(positives, negatives) for positives, negatives in np.array(scores, np.int64)]


def _value(interval: Interval | None) -> float | None:
    return None if interval is None else interval.value


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
