"""Learning curves as SVG, drawn here: the page needs no script and works without a network (docs/decisions/0015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, TypeAlias

from markupsafe import Markup

from coordinator.web.axes import Frame, joined, ticks, whole_ticks

Ends: TypeAlias = Sequence[float] | None

WIDTH: Final = 460
HEIGHT: Final = 264
SPARK_WIDTH: Final = 160
SPARK_HEIGHT: Final = 40
_LEFT, _TOP, _RIGHT, _BELOW = 58, 10, 14, 48
_PAD: Final = 4
_MARKED: Final = 30  # more points than these run into each other, and only the last one has a mark


@dataclass(frozen=True, slots=True)
class Series:
    """A measure over rounds: `values` and the ends of their intervals at the round numbers `at`; None where there is
    none. A round number may come twice."""

    name: str
    at: Sequence[int]
    values: Sequence[float | None]
    ends: Sequence[Ends]

    @property
    def known(self) -> list[tuple[int, float]]:
        return [(at, value) for at, value in zip(self.at, self.values, strict=True) if value is not None]

    @property
    def band(self) -> list[tuple[int, float, float]]:
        return [(at, ends[0], ends[1]) for at, ends in zip(self.at, self.ends, strict=True) if ends is not None]

    @property
    def words(self) -> str:
        """What a screen reader says in the place of the drawing."""
        (first, begin), (last, end) = self.known[0], self.known[-1]
        within = f", 95 % interval {self.band[-1][1]:.3f} to {self.band[-1][2]:.3f}" if self.band else ""
        start = f"; {begin:.3f} in round {first}" if last > first else ""
        return f"{self.name}: {end:.3f} in round {last}{within}{start}"


def chart(series: Series, span: tuple[float, float] | None = None) -> Markup:
    """The measure as a line in the band of its intervals, with axes; empty where nothing is known.

    Args:
        span: of the upright axis; without it, from 0 to what fits.
    """
    if not series.known:
        return Markup("")
    highest = max([value for _, value in series.known] + [high for _, _, high in series.band])
    upright = ticks(*(span or (0.0, highest or 1.0)))
    first, last = min(series.at), max(series.at)
    across: tuple[float, float] = (first, last) if last > first else (first - 0.5, last + 0.5)
    frame = Frame(_LEFT, _TOP, WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BELOW, across, (upright[0], upright[-1]))
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{words}"><title>{words}</title>{}{}</svg>'
    ).format(
        WIDTH,
        HEIGHT,
        frame.axes(whole_ticks(first, last), upright, "Round", series.name),
        _drawn(frame, series, marks=len(series.known) <= _MARKED),
        words=series.words,
    )


def spark(series: Series, top: float | None = None) -> Markup:
    """The same without axes, small enough for a line of text, from 0 to `top` or the largest value."""
    if not series.known:
        return Markup("")
    first, last = min(series.at), max(series.at)
    across: tuple[float, float] = (first, last) if last > first else (first - 0.5, last + 0.5)
    highest = top or max(value for _, value in series.known) or 1.0
    frame = Frame(_PAD, _PAD, SPARK_WIDTH - 2 * _PAD, SPARK_HEIGHT - 2 * _PAD, across, (0.0, highest))
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{words}"><title>{words}</title>{}</svg>'
    ).format(SPARK_WIDTH, SPARK_HEIGHT, _drawn(frame, series, marks=False), words=series.words)


def _drawn(frame: Frame, series: Series, *, marks: bool) -> Markup:
    places = frame.placed(series.known)
    dots = [_DOT.format(x, y, 2.5) for x, y in places[:-1]] if marks else []
    last = _DOT.format(*places[-1], 4)
    return _bands(frame, series) + _LINE.format(joined(places)) + Markup("").join([*dots, last])


def _bands(frame: Frame, series: Series) -> Markup:
    """One for each run of rounds that have intervals."""
    runs = groupby(zip(series.at, series.ends, strict=True), key=lambda pair: pair[1] is not None)
    known = [[(at, ends) for at, ends in run if ends is not None] for has, run in runs if has]
    return Markup("").join(
        _BAND.format(
            joined(
                [
                    *frame.placed((at, ends[1]) for at, ends in run),
                    *frame.placed((at, ends[0]) for at, ends in reversed(run)),
                ]
            )
        )
        for run in known
    )


_BAND: Final = Markup('<polygon class="band" points="{}"/>')
_LINE: Final = Markup('<polyline class="line" points="{}"/>')
_DOT: Final = Markup('<circle cx="{:g}" cy="{:g}" r="{:g}"/>')
