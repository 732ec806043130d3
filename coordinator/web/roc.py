"""ROC plots as SVG, drawn here as the curves are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from markupsafe import Markup

from coordinator.metrics import Roc
from coordinator.web.curves import joined

SIDE: Final = 400  # of the square between the axes, in units of the drawing
_LEFT, _BELOW, _EDGE = 66, 50, 10  # room for the axes' labels, and for half a line

Rates = tuple[float, float]


def roc_plot(curve: Roc, label: str, calls: Rates | None = None) -> Markup:
    """The curve in its band, with even chance as the diagonal.

    calls: (1 - specificity, sensitivity) of calling each case what it most likely is; a dot.
    """
    across = curve.false_positive_rate
    above = zip(across, curve.high, strict=True)
    below = zip(across[::-1], curve.low[::-1], strict=True)
    return Markup(
        '<svg class="roc" viewBox="0 0 {width} {height}" role="img" aria-label="{label}"><title>{label}</title>'
        '{axes}<polyline class="chance" points="{chance}"/><polygon points="{band}"/><polyline points="{line}"/>'
        "{dot}</svg>"
    ).format(
        width=_LEFT + SIDE + _EDGE,
        height=_EDGE + SIDE + _BELOW,
        label=label,
        axes=_axes(),
        chance=joined(_placed([(0, 0), (1, 1)])),
        band=joined(_placed([*above, *below])),
        line=joined(_placed(zip(across, curve.sensitivity, strict=True))),
        dot=_dot(calls) if calls else "",
    )


def _axes() -> Markup:
    bottom, across, up = _EDGE + SIDE, _LEFT + SIDE // 2, _EDGE + SIDE // 2
    square = Markup('<rect x="{}" y="{}" width="{}" height="{}"/>').format(_LEFT, _EDGE, SIDE, SIDE)
    label = Markup('<text x="{:g}" y="{:g}" text-anchor="{}">{:g}</text>')
    names = Markup(
        '<text x="{across}" y="{low}" text-anchor="middle">1 - specificity</text>'
        '<text x="16" y="{up}" text-anchor="middle" transform="rotate(-90 16 {up})">sensitivity</text>'
    ).format(across=across, up=up, low=bottom + 42)
    ticks = [label.format(_LEFT + share * SIDE, bottom + 20, "middle", share) for share in (0, 0.5, 1)]
    ticks += [label.format(_LEFT - 6, bottom - share * SIDE + 6, "end", share) for share in (0, 0.5, 1)]
    return square + Markup("").join(ticks) + names


def _dot(rates: Rates) -> Markup:
    ((x, y),) = _placed([rates])
    return Markup('<circle cx="{:g}" cy="{:g}" r="7"/>').format(x, y)


def _placed(points: Iterable[Rates]) -> list[Rates]:
    """Rates as places in the drawing, in whole units; what falls on the place before is left out."""
    rates = np.array(list(points))
    places = np.round(rates * (SIDE, -SIDE) + (_LEFT, _EDGE + SIDE))
    moved = np.any(np.diff(places, axis=0, prepend=np.nan) != 0, axis=1)
    return [(float(x), float(y)) for x, y in places[moved]]
