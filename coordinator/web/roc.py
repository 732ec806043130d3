"""ROC plots as SVG, drawn here as the curves are."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from coordinator.metrics import Roc
from coordinator.web.axes import Frame, joined

SIDE: Final = 300  # of the square between the axes, in units of the drawing
_LEFT, _BELOW, _EDGE = 54, 46, 10  # room for the axes' numbers and names, and for half a line
_TICKS: Final = (0, 0.2, 0.4, 0.6, 0.8, 1)
_FRAME: Final = Frame(_LEFT, _EDGE, SIDE, SIDE, (0.0, 1.0), (0.0, 1.0))

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
        '{axes}<polyline class="chance" points="{chance}"/><polygon class="band" points="{band}"/>'
        '<polyline class="line" points="{line}"/>{dot}</svg>'
    ).format(
        width=_LEFT + SIDE + _EDGE,
        height=_EDGE + SIDE + _BELOW,
        label=label,
        axes=_FRAME.axes(_TICKS, _TICKS, "1 − specificity", "Sensitivity"),
        chance=joined(_FRAME.placed([(0, 0), (1, 1)])),
        band=joined(_FRAME.placed([*above, *below], digits=0)),
        line=joined(_FRAME.placed(zip(across, curve.sensitivity, strict=True), digits=0)),
        dot=_dot(calls) if calls else "",
    )


def _dot(rates: Rates) -> Markup:
    ((x, y),) = _FRAME.placed([rates])
    return Markup('<circle cx="{:g}" cy="{:g}" r="5"/>').format(x, y)
