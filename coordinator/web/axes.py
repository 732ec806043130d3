"""Where things lie in a drawing: axes with their grid, ticks and names, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from markupsafe import Markup

Range: TypeAlias = tuple[float, float]
Points: TypeAlias = Iterable[tuple[float, float]]
_STEPS: Final = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Frame:
    """The rectangle between the axes, in units of the drawing, and the values at its sides."""

    left: float
    top: float
    width: float
    height: float
    x: Range
    y: Range

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def right(self) -> float:
        return self.left + self.width

    def placed(self, points: Points, digits: int = 1) -> list[tuple[float, float]]:
        """Values as places in the drawing; what falls on the place before is left out."""
        values = np.array(list(points), float).reshape(-1, 2)
        (x0, x1), (y0, y1) = self.x, self.y
        across = self.left + self.width * (values[:, 0] - x0) / (x1 - x0 or 1)
        up = self.bottom - self.height * (values[:, 1] - y0) / (y1 - y0 or 1)
        places = np.round(np.stack([across, up], axis=1), digits)
        moved = np.any(np.diff(places, axis=0, prepend=np.nan) != 0, axis=1)
        return [(float(x), float(y)) for x, y in places[moved]]

    def axes(self, x_ticks: Sequence[float], y_ticks: Sequence[float], x_name: str, y_name: str) -> Markup:
        """Grid lines, the numbers beside them, and what the axes are of.

        Hidden from screen readers: the drawing's title and the tables beside it say it better.
        """
        parts = [Markup('<g class="axes" aria-hidden="true">')]
        for value in y_ticks:
            ((_, y),) = self.placed([(self.x[0], value)])
            parts.append(_LINE.format(self.left, y, self.right, y))
            parts.append(_TEXT.format(self.left - 8, y + 4, "end", number(value)))
        for value in x_ticks:
            ((x, _),) = self.placed([(value, self.y[0])])
            parts.append(_LINE.format(x, self.bottom, x, self.bottom + 4))
            parts.append(_TEXT.format(x, self.bottom + 19, "middle", number(value)))
        middle = self.top + self.height / 2
        parts.append(_NAME.format(self.left + self.width / 2, self.bottom + 38, "", x_name))
        turned = Markup(' transform="rotate(-90 {:g} {:g})"').format(14, middle)
        parts.append(_NAME.format(14, middle, turned, y_name))
        return Markup("").join([*parts, Markup("</g>")])


_LINE: Final = Markup('<line x1="{:g}" y1="{:g}" x2="{:g}" y2="{:g}"/>')
_TEXT: Final = Markup('<text x="{:g}" y="{:g}" text-anchor="{}">{}</text>')
_NAME: Final = Markup('<text class="name" x="{:g}" y="{:g}" text-anchor="middle"{}>{}</text>')


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from at most `low` to at least `high`, evenly spaced, about `most` of them."""
    high = high if high > low else low + 1
    span = high - low
    scale = 10.0 ** math.floor(math.log10(span / most))
    step = next(scale * each for each in _STEPS if span / (scale * each) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 10) for place in range(first, max(last, first + 1) + 1)]


def whole_ticks(low: int, high: int, most: int = 8) -> list[float]:
    """Whole numbers within `low` to `high`, both ends among them."""
    step = max(1, math.ceil((high - low) / most))
    inner = range(low - low % step + step, high, step)
    return [low, *(each for each in inner if min(high - each, each - low) >= 0.6 * step), *[high][: high > low]]


def joined(points: Points) -> str:
    """Places as an SVG attribute has them."""
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def number(value: float) -> str:
    return f"{value:.6g}"
