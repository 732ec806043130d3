"""Small curves as SVG, drawn here: the page needs no script and works without a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

WIDTH: Final = 260
HEIGHT: Final = 72
_PAD: Final = 6


def curve(values: Sequence[float | None], label: str, top: float | None = None) -> Markup:
    """A line over rounds with its last value, from 0 to `top` (or the largest value); gaps where a value is None."""
    known = [value for value in values if value is not None]
    if not known:
        return Markup("")
    top = top or max(known) or 1.0
    points = [_point(place, value, len(values), top) for place, value in enumerate(values) if value is not None]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    words = f"{label}: {known[-1]:.3f}, first {known[0]:.3f}, {len(known)} rounds"
    return Markup(
        '<svg class="curve" viewBox="0 0 {width} {height}" role="img" aria-label="{words}"><title>{words}</title>'
        '<line class="axis" x1="{pad}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
        '<polyline points="{line}"/><circle cx="{x}" cy="{y}" r="3"/></svg>'
    ).format(
        width=WIDTH,
        height=HEIGHT,
        words=words,
        pad=_PAD,
        bottom=HEIGHT - _PAD,
        right=WIDTH - _PAD,
        line=line,
        x=f"{x:.1f}",
        y=f"{y:.1f}",
    )


def _point(place: int, value: float, number: int, top: float) -> tuple[float, float]:
    across = (WIDTH - 2 * _PAD) * (place / (number - 1) if number > 1 else 0.5)
    return _PAD + across, HEIGHT - _PAD - (HEIGHT - 2 * _PAD) * min(value / top, 1.0)
