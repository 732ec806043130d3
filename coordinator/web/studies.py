"""What the pages show of a study: its rounds, and its figures in words and as plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from sqlalchemy.orm import Session

from coordinator.metrics import BY_CLASS, Roc, at, class_names, in_words, roc_curves
from coordinator.store import contributions, history, memberships, spot_checks, tables
from coordinator.web.curves import curve
from coordinator.web.roc import roc_plot
from crypto.schemes import SCHEMES

Entry = Mapping[str, Any]  # of `history.rounds`


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure over the rounds, and what it came to."""

    name: str
    plot: Markup
    last: str


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class against the others. `rows`: for each measured round, newest first, its measures in words."""

    name: str
    cases: int | None
    roc: Markup
    margin: float | None
    figures: Sequence[Figure]
    rows: Sequence[tuple[Entry, Sequence[str]]]


def overview(session: Session, row: tables.Study) -> dict[str, Any]:
    """What every page shows of it; rounds newest first."""
    rounds = history.rounds(session, row.id)
    measured = _measured(rounds)
    figures = [_figure(measured, "macro_auc", "Pooled macro AUC", top=1.0), _figure(measured, "loss", "Pooled loss")]
    return {
        "row": row,
        "trust": SCHEMES[row.scheme].trust,
        "members": len(memberships.members(session, row.id)),
        "rounds": rounds[::-1],
        "measured": measured[::-1],
        "figures": [each for each in figures if each.last],
    }


def details(session: Session, row: tables.Study) -> dict[str, Any]:
    """The same, and its classes with the ROC curves of the last completed round."""
    found = overview(session, row)
    return found | {"classes": _by_class(session, row, found["measured"][::-1]) if found["measured"] else []}


def _by_class(session: Session, row: tables.Study, measured: Sequence[Entry]) -> list[ClassFigures]:
    number = len(measured[-1]["metrics"].get("auc") or ())
    rocs = _last_rocs(session, row, measured[-1]) or [None] * number
    return [
        _class_figures(measured, place, name, roc)
        for place, (name, roc) in enumerate(zip(class_names(row.recipe, number), rocs, strict=True))
    ]


def _measured(rounds: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in rounds if entry["state"] == "complete" and entry["metrics"]]


def _last_rocs(session: Session, row: tables.Study, last: Entry) -> list[Roc | None]:
    attempt = contributions.attempt(session, row.id, last["round"], last["attempt"])
    return roc_curves(spot_checks.counts(session, attempt)["recipe"].get("scores", ()))


def _class_figures(measured: Sequence[Entry], place: int, name: str, roc: Roc | None) -> ClassFigures:
    last = measured[-1]["metrics"]
    cases, margins = last.get("class_cases"), last.get("auc_margin")
    words = f"ROC curve of {name}, AUC {in_words(last, 'auc', place)}"
    return ClassFigures(
        name=name,
        cases=cases[place] if cases else None,
        roc=roc_plot(roc, words, _calls(last, place)) if roc else Markup(""),
        margin=margins[place] if margins else None,
        figures=[_figure(measured, key, label, place, top=1.0) for key, label in BY_CLASS.items()],
        rows=[(entry, [in_words(entry["metrics"], key, place) for key in BY_CLASS]) for entry in measured[::-1]],
    )


def _calls(found: Mapping[str, Any], place: int) -> tuple[float, float] | None:
    """Where calling each case what it most likely is lies in the plot."""
    (sensitivity, _), (specificity, _) = (at(found, name, place) for name in ("sensitivity", "specificity"))
    return None if sensitivity is None or specificity is None else (1 - specificity, sensitivity)


def _figure(
    measured: Sequence[Entry], name: str, label: str, place: int | None = None, top: float | None = None
) -> Figure:
    found = [at(entry["metrics"], name, place) for entry in measured]
    words = [text for entry in measured if (text := in_words(entry["metrics"], name, place))]
    plot = curve([value for value, _ in found], label, top, [ends for _, ends in found])
    return Figure(label, plot, words[-1] if words else "")
