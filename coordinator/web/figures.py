"""A study's figures in words and as drawings, from counts that were pooled over the hospitals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup
from sqlalchemy.orm import Session

from coordinator.metrics import BY_CLASS, Roc, at, class_names, in_words, roc_curves
from coordinator.store import contributions, spot_checks, tables
from coordinator.store.glance import Attempt
from coordinator.web.curves import Series, chart, spark
from coordinator.web.roc import roc_plot

_UNIT: Final = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure over the rounds, and what it came to."""

    name: str
    plot: Markup
    last: str


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class against the others. `rows`: for each measured attempt, newest first, its measures in words."""

    name: str
    cases: int | None
    roc: Markup
    margin: float | None
    measures: Sequence[Figure]
    rows: Sequence[tuple[Attempt, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Cell:
    """Of a confusion matrix: how many cases, their share of the true class, and that in tenths, for its shade."""

    cases: int
    share: float | None
    tenths: int
    right: bool


@dataclass(frozen=True, slots=True)
class Confusion:
    """Rows are what cases are, columns what they were called."""

    names: Sequence[str]
    rows: Sequence[tuple[str, int, Sequence[Cell]]]


@dataclass(frozen=True, slots=True)
class Performance:
    """What the counts of one attempt say of its base model."""

    attempt: Attempt
    classes: Sequence[ClassFigures]
    confusion: Confusion | None


def measured(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Those that have figures, oldest first."""
    return [each for each in attempts if each.state == "complete" and each.measures]


def learning_curves(found: Sequence[Attempt]) -> list[Figure]:
    """Pooled AUC and loss over measured attempts."""
    series = [(_series(found, "macro_auc", "Macro AUC"), _UNIT), (_series(found, "loss", "Loss, nats"), None)]
    return [
        Figure(each.name, chart(each, span), _last(found, name))
        for (each, span), name in zip(series, ("macro_auc", "loss"), strict=True)
        if each.known
    ]


def auc_curve(found: Sequence[Attempt]) -> Figure:
    """Pooled AUC over measured attempts."""
    return Figure("Macro AUC", chart(_series(found, "macro_auc", "Macro AUC"), _UNIT), _last(found, "macro_auc"))


def auc_at_a_glance(found: Sequence[Attempt]) -> Figure:
    """The pooled AUC in a line's height."""
    return Figure("Macro AUC", spark(_series(found, "macro_auc", "Macro AUC"), 1.0), _last(found, "macro_auc"))


def performance(session: Session, study: tables.Study, found: Sequence[Attempt]) -> Performance | None:
    """Class by class over measured attempts, with the ROC curves and the confusion matrix of the last one."""
    if not found:
        return None
    last = found[-1]
    measures = last.measures or {}
    names = class_names(study.recipe, len(measures.get("auc") or ()))
    counts = spot_checks.counts(session, contributions.attempt(session, study.id, last.number, last.attempt))["recipe"]
    rocs = roc_curves(counts.get("scores", ())) or [None] * len(names)
    return Performance(
        last,
        [_class_figures(found, place, name, roc) for place, (name, roc) in enumerate(zip(names, rocs, strict=True))],
        _confusion(names, counts.get("confusion")),
    )


def _class_figures(found: Sequence[Attempt], place: int, name: str, roc: Roc | None) -> ClassFigures:
    last = found[-1].measures or {}
    cases, margins = last.get("class_cases"), last.get("auc_margin")
    words = f"ROC curve of {name}, AUC {in_words(last, 'auc', place)}"
    return ClassFigures(
        name=name,
        cases=cases[place] if cases else None,
        roc=roc_plot(roc, words, _calls(last, place)) if roc else Markup(""),
        margin=margins[place] if margins else None,
        measures=[_class_figure(found, key, label, place, name) for key, label in BY_CLASS.items()],
        rows=[(entry, [in_words(entry.measures, key, place) for key in BY_CLASS]) for entry in found[::-1]],
    )


def _class_figure(found: Sequence[Attempt], key: str, label: str, place: int, name: str) -> Figure:
    return Figure(label, spark(_series(found, key, f"{label} of {name}", place), 1.0), _last(found, key, place))


def _calls(measures: Mapping[str, Any], place: int) -> tuple[float, float] | None:
    """Where calling each case what it most likely is lies in the plot."""
    (sensitivity, _), (specificity, _) = (at(measures, name, place) for name in ("sensitivity", "specificity"))
    return None if sensitivity is None or specificity is None else (1 - specificity, sensitivity)


def _confusion(names: Sequence[str], counts: Sequence[Sequence[int]] | None) -> Confusion | None:
    if counts is None or len(counts) != len(names) or not names:
        return None
    rows = []
    for true, (name, row) in enumerate(zip(names, counts, strict=True)):
        cases = sum(row)
        shares = [each / cases if cases else None for each in row]
        cells = [
            Cell(each, share, round(10 * (share or 0)), true == called)
            for called, (each, share) in enumerate(zip(row, shares, strict=True))
        ]
        rows.append((name, cases, cells))
    return Confusion(names, rows)


def _series(found: Sequence[Attempt], key: str, name: str, place: int | None = None) -> Series:
    values = [at(entry.measures, key, place) for entry in found]
    return Series(name, [entry.number for entry in found], [value for value, _ in values], [ends for _, ends in values])


def _last(found: Sequence[Attempt], key: str, place: int | None = None) -> str:
    words = [text for entry in found if (text := in_words(entry.measures, key, place))]
    return words[-1] if words else ""
