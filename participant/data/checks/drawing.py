"""Histograms as SVG in the page: they show without a script and without a network (docs/decisions/0015)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from participant.data.checks.report import Histogram
from participant.data.volume import Modality

WIDTH: Final = 400
HEIGHT: Final = 220
_LEFT, _TOP, _RIGHT, _BELOW = 14, 10, 14, 46
_FLOOR: Final = HEIGHT - _BELOW
_NAMES: Final[dict[Modality, str]] = {"ct": "Intensity in HU", "xray": "Brightness, black to white"}


def histogram(drawn: Histogram, edges: Sequence[float], top: float, modality: Modality) -> Markup:
    """A class's mean as a line in the band of its 10th to 90th percentile; `top` is the share at the upper end."""
    centres = [(left + right) / 2 for left, right in pairwise(edges)]

    def placed(values: Iterable[float]) -> list[tuple[float, float]]:
        return [(_across(at, edges), _up(value, top)) for at, value in zip(centres, values, strict=True)]

    words = f"Intensities of {drawn.label}, {_cases(drawn.cases)}: most often near {_number(_peak(drawn, centres))}"
    return Markup(
        '<svg class="histogram" viewBox="0 0 {} {}" role="img" aria-label="{words}"><title>{words}</title>'
        '{}<polygon class="band" points="{}"/><polyline class="line" points="{}"/></svg>'
    ).format(
        WIDTH,
        HEIGHT,
        _axis(edges, _NAMES[modality]),
        _joined([*placed(drawn.high), *reversed(placed(drawn.low))]),
        _joined(placed(drawn.mean)),
        words=words,
    )


def _peak(drawn: Histogram, centres: Sequence[float]) -> float:
    return centres[max(range(len(centres)), key=drawn.mean.__getitem__)]


def _axis(edges: Sequence[float], name: str) -> Markup:
    """Hidden from screen readers: the drawing's title says it better."""
    low, high = edges[0], edges[-1]
    parts = [Markup('<g class="axes" aria-hidden="true">')]
    for step in range(5):
        value = low + (high - low) * step / 4
        x = _across(value, edges)
        parts.append(Markup('<line x1="{0:g}" y1="{1}" x2="{0:g}" y2="{2}"/>').format(x, _TOP, _FLOOR + 4))
        anchor = {0: "start", 4: "end"}.get(step, "middle")
        parts.append(
            Markup('<text x="{:g}" y="{}" text-anchor="{}">{}</text>').format(x, _FLOOR + 19, anchor, _number(value))
        )
    middle = _LEFT + (WIDTH - _LEFT - _RIGHT) / 2
    parts.append(Markup('<text x="{:g}" y="{}" text-anchor="middle">{}</text></g>').format(middle, _FLOOR + 40, name))
    return Markup("").join(parts)


def _across(value: float, edges: Sequence[float]) -> float:
    return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (value - edges[0]) / (edges[-1] - edges[0]), 1)


def _up(value: float, top: float) -> float:
    """What is higher than the drawing ends at its top: air, mostly, beside which nothing else would show."""
    return round(_FLOOR - (_FLOOR - _TOP) * min(value / top, 1.0), 1)


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.0f}"


def _cases(number: int) -> str:
    return f"{number} case{'' if number == 1 else 's'}"
