"""ROC curves and reliability diagrams as SVG, written here: matplotlib is for simulations, and a drawing that a style
sheet colours fits a light page and a dark one (docs/decisions/0015).

Both plots are squares from 0 to 1; what is to be seen is also in the tables beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from markupsafe import Markup

from models.calibration import ReliabilityBin
from models.roc import GRID
from participant.evaluation.reading import ReaderPoint, ReaderPoints
from participant.evaluation.result import ClassResult, RocCurve

_SIDE: Final = 300  # of the square, in units of the drawing
_LEFT, _BELOW, _EDGE = 64, 46, 10  # room for the axes' numbers and names, and for half a line
_TICKS: Final = (0, 0.2, 0.4, 0.6, 0.8, 1)
_LARGEST_DOT: Final = 9.0  # radius of a reliability point that has all cases

Point = tuple[float, float]


def roc_drawing(result: ClassResult) -> Markup:
    """The curve in its band, the diagonal of even chance, and who is beside it; empty without a curve."""
    if result.roc is None:
        return Markup("")
    dots = [_CIRCLE.format("called", *_place((1 - result.called[1], result.called[0])), 5)] if result.called else []
    words = f"ROC curve of {result.name}, AUC {result.auc or 'not known'}"
    return _drawn(
        "roc",
        words,
        _axes("1 − specificity", "Sensitivity"),
        _line("chance", [(0, 0), (1, 1)]),
        _band(result.roc),
        _line("line", zip(result.roc.false_positive_rate, result.roc.sensitivity, strict=True)),
        *dots,
        *(_readers(result.readers) if result.readers is not None else ()),
    )


def reliability_drawing(result: ClassResult) -> Markup:
    """How often cases were of the class (95 % intervals), by the probability that was given to it."""
    cases = sum(each.cases for each in result.reliability)
    words = f"Reliability of the probabilities of {result.name}, {cases} cases"
    return _drawn(
        "reliability",
        words,
        _axes("Probability given", "Share of cases"),
        _line("chance", [(0, 0), (1, 1)]),
        *(_whisker(each) for each in result.reliability),
        *(_dot(each, cases) for each in result.reliability),
    )


def _drawn(kind: str, words: str, *parts: Markup) -> Markup:
    size = f"0 0 {_LEFT + _SIDE + _EDGE} {_EDGE + _SIDE + _BELOW}"
    head = Markup('<svg class="{}" viewBox="{}" role="img" aria-label="{}"><title>{}</title>')
    return Markup("").join([head.format(kind, size, words, words), *parts, Markup("</svg>")])


def _place(point: Point) -> Point:
    return _LEFT + _SIDE * float(point[0]), _EDGE + _SIDE * (1 - float(point[1]))


def _points(points: Iterable[Point]) -> str:
    """As an attribute has them; what falls on the place before is left out."""
    places = [tuple(round(value, 1) for value in _place(point)) for point in points]
    kept = [place for place, before in zip(places, [None, *places], strict=False) if place != before]
    return " ".join(f"{x:g},{y:g}" for x, y in kept)


def _line(kind: str, points: Iterable[Point]) -> Markup:
    return Markup('<polyline class="{}" points="{}"/>').format(kind, _points(points))


def _band(curve: RocCurve) -> Markup:
    if np.isnan(curve.low).any():
        return Markup("")
    above, below = zip(GRID, curve.high, strict=True), zip(GRID[::-1], curve.low[::-1], strict=True)
    return Markup('<polygon class="band" points="{}"/>').format(_points([*above, *below]))


def _axes(x_name: str, y_name: str) -> Markup:
    """Hidden from screen readers: the drawing's title and the tables beside it say it better."""
    parts = [Markup('<g class="axes" aria-hidden="true">')]
    for value in _TICKS:
        (x, bottom), (left, y) = _place((value, 0)), _place((0, value))
        parts.append(_STROKE.format(left, y, left + _SIDE, y))
        parts.append(_TEXT.format(left - 8, y + 5, "end", f"{value:g}"))
        parts.append(_STROKE.format(x, bottom, x, bottom + 4))
        parts.append(_TEXT.format(x, bottom + 20, "middle", f"{value:g}"))
    middle = _EDGE + _SIDE / 2
    parts.append(_TEXT.format(_LEFT + _SIDE / 2, _EDGE + _SIDE + 41, "middle", x_name))
    turned = Markup('<text x="14" y="{0:g}" text-anchor="middle" transform="rotate(-90 14 {0:g})">{1}</text>')
    return Markup("").join([*parts, turned.format(middle, y_name), Markup("</g>")])


def _readers(points: ReaderPoints) -> list[Markup]:
    marks = [_mark(each, "reader", _CROSS) for each in points.single]
    marks += [_mark(each, "average", _DIAMOND) for each in (points.average,) if each is not None]
    return marks + [_mark(each, "majority", _SQUARE) for each in (points.majority,) if each is not None]


def _mark(reader: ReaderPoint, kind: str, path: str) -> Markup:
    if reader.rates is None:
        return Markup("")
    x, y = _place((1 - reader.rates[1], reader.rates[0]))
    return Markup('<path class="{}" transform="translate({:g} {:g})" d="{}"/>').format(kind, x, y, path)


def _whisker(point: ReliabilityBin) -> Markup:
    (x, low), (_, high) = _place((point.predicted, point.observed.low)), _place((point.predicted, point.observed.high))
    return Markup('<line class="whisker" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(x, low, x, high)


def _dot(point: ReliabilityBin, cases: int) -> Markup:
    """Its area tells how many cases it has."""
    radius = max(4.5, _LARGEST_DOT * float(np.sqrt(point.cases / cases)))
    return _CIRCLE.format("point", *_place((point.predicted, point.observed.value)), radius)


_CROSS: Final = "M-5-5L5 5M-5 5L5-5"
_DIAMOND: Final = "M0-7L7 0L0 7L-7 0Z"
_SQUARE: Final = "M-5-5H5V5H-5Z"
_STROKE: Final = Markup('<line x1="{:g}" y1="{:g}" x2="{:g}" y2="{:g}"/>')
_TEXT: Final = Markup('<text x="{:g}" y="{:g}" text-anchor="{}">{}</text>')
_CIRCLE: Final = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>')
#: The marks by name, for a key.
MARKS: Final = {"reader": _CROSS, "average": _DIAMOND, "majority": _SQUARE}

__all__ = ["MARKS", "reliability_drawing", "roc_drawing"]
