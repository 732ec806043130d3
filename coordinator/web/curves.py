"""Small curves as SVG, drawn here: the page needs no script and works without a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from markupsafe import Markup

WIDTH: Final = 260
HEIGHT: Final = 72
_PAD: Final = 6

Ends: TypeAlias = Sequence[float] | None


def curve(values: Sequence[float | None], label: str, top: float | None = None, ends: Sequence[Ends] = ()) -> Markup:
    """A line over rounds with its last value, from 0 to `top` (or the largest value); gaps where a value is None.

    ends: of the interval of each value, or None; a band behind the line.
    """
    known = [value for value in values if value is not None]
    if not known:
        return Markup("")
    top = top or max(known) or 1.0
    points = [_point(place, value, len(values), top) for place, value in enumerate(values) if value is not None]
    words = f"{label}: {known[-1]:.3f}, first {known[0]:.3f}, {len(known)} rounds"
    return Markup(
        '<svg class="curve" viewBox="0 0 {width} {height}" role="img" aria-label="{words}"><title>{words}</title>'
        '<line class="axis" x1="{pad}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
        '{band}<polyline points="{line}"/><circle cx="{x:g}" cy="{y:g}" r="3"/></svg>'
    ).format(
        width=WIDTH,
        height=HEIGHT,
        words=words,
        pad=_PAD,
        bottom=HEIGHT - _PAD,
        right=WIDTH - _PAD,
        band=_band(ends, len(values), top),
        line=joined(points),
        x=points[-1][0],
        y=points[-1][1],
    )


def joined(points: Iterable[tuple[float, float]]) -> str:
    """Points as an SVG attribute has them."""
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _band(ends: Sequence[Ends], number: int, top: float) -> Markup:
    known = [(place, each) for place, each in enumerate(ends) if each is not None]
    lower, upper = ([_point(place, each[side], number, top) for place, each in known] for side in (0, 1))
    return Markup('<polygon points="{}"/>').format(joined([*upper, *lower[::-1]])) if known else Markup("")


def _point(place: int, value: float, number: int, top: float) -> tuple[float, float]:
    across = (WIDTH - 2 * _PAD) * (place / (number - 1) if number > 1 else 0.5)
    return round(_PAD + across, 1), round(HEIGHT - _PAD - (HEIGHT - 2 * _PAD) * min(value / top, 1.0), 1)
