"""Drawings: lines, bands and axes lie where the numbers say, and words say the same to who cannot see them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from coordinator.metrics import roc_curves
from coordinator.web.axes import Frame, ticks, whole_ticks
from coordinator.web.curves import HEIGHT, WIDTH, Series, chart, spark
from coordinator.web.roc import SIDE, roc_plot

SCORES = [[[1, 1, 1, 0, 1, 1, 1, 14], [14, 1, 1, 1, 0, 1, 1, 1]]]


def places(drawn: str, kind: str) -> list[tuple[float, float]]:
    points = re.search(rf'<poly(?:line|gon) class="{kind}" points="([^"]*)"', drawn)[1].split()
    return [(float(x), float(y)) for x, y in (point.split(",") for point in points)]


def series(
    values: Sequence[float | None], ends: Sequence[Sequence[float] | None] | None = None, first: int = 1
) -> Series:
    return Series("AUC <x>", range(first, first + len(values)), values, ends or [None] * len(values))


def test_a_chart_has_axes_and_its_line_runs_between_them() -> None:
    drawn = str(chart(series([0.0, 0.5, 1.0]), (0.0, 1.0)))
    (left, bottom), (middle, half), (right, top) = places(drawn, "line")
    assert (middle, half) == ((left + right) / 2, (bottom + top) / 2)
    assert 0 < left < right < WIDTH
    assert 0 < top < bottom < HEIGHT
    numbers = re.findall(r'<text x="[\d.]+" y="[\d.]+" text-anchor="(\w+)">([\d.]+)<', drawn)
    assert [value for side, value in numbers if side == "end"] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert [value for side, value in numbers if side == "middle"] == ["1", "2", "3"]
    assert "Round</text>" in drawn


def test_its_words_say_what_it_shows() -> None:
    drawn = str(chart(series([0.4, None, 0.9], [[0.2, 0.6], None, [0.8, 0.95]], first=3)))
    words = "AUC &lt;x&gt;: 0.900 in round 5, 95 % interval 0.800 to 0.950; 0.400 in round 3"
    assert f'role="img" aria-label="{words}"><title>{words}</title>' in drawn
    assert 'class="axes" aria-hidden="true"' in drawn


def test_a_band_joins_the_intervals_of_rounds_that_follow_one_another() -> None:
    drawn = str(spark(series([0.5] * 5, [[0.4, 0.6], [0.4, 0.6], None, [0.0, 1.0], [0.5, 0.5]]), 1.0))
    line = [x for x, _ in places(drawn, "line")]
    bands = re.findall(r'<polygon class="band" points="([^"]*)"', drawn)
    xs = [sorted({float(point.split(",")[0]) for point in band.split()}) for band in bands]
    assert xs == [line[:2], line[3:]]
    assert drawn.index("<polygon") < drawn.index("<polyline"), "behind the line"


@pytest.mark.parametrize("draw", [chart, spark])
def test_nothing_is_drawn_of_nothing(draw) -> None:
    assert str(draw(series([]))) == ""
    assert str(draw(series([None, None]))) == ""
    assert "<circle" in str(draw(series([0.0])))


def test_many_rounds_have_a_mark_at_the_end_only() -> None:
    assert str(chart(series([0.5] * 30))).count("<circle") == 30
    assert str(chart(series([0.5] * 31))).count("<circle") == 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 1.7, [0, 0.5, 1, 1.5, 2]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 0.003, [0, 0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003]),
    ],
)
def test_ticks_are_round_numbers_that_hold_the_range(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(1, 1, [1]), (1, 3, [1, 2, 3]), (1, 200, [1, *range(25, 176, 25), 200]), (3, 30, [3, 8, 12, 16, 20, 24, 30])],
)
def test_rounds_are_whole_and_both_ends_are_there(low: int, high: int, expected: list[int]) -> None:
    assert whole_ticks(low, high) == expected


def test_a_frame_puts_its_corners_where_the_range_ends() -> None:
    frame = Frame(10, 20, 100, 50, (1, 3), (-1, 1))
    assert frame.placed([(1, -1), (3, 1), (2, 0), (2, 0)]) == [(10, 70), (110, 20), (60, 45)]


# --- ROC


def test_the_plot_runs_between_the_corners_within_its_band() -> None:
    (curve,) = roc_curves(SCORES)
    drawn = str(roc_plot(curve, "ROC of <x>", (0.25, 0.75)))
    assert "ROC of &lt;x&gt;" in drawn
    (left, bottom), (right, top) = places(drawn, "chance")
    line, band = places(drawn, "line"), places(drawn, "band")
    assert (line[0], line[-1]) == ((left, bottom), (right, top))
    assert (right - left, bottom - top) == (SIDE, SIDE)
    for across, place in line:
        sides = [side for at, side in band if at == across]
        assert min(sides) <= place <= max(sides)
    assert f'<circle cx="{left + SIDE / 4:g}" cy="{top + SIDE / 4:g}"' in drawn
    assert "<circle" not in str(roc_plot(curve, "ROC"))


def test_a_long_curve_is_drawn_in_few_points() -> None:
    generator = np.random.default_rng(0)
    many = [np.sort(generator.integers(0, 9, 1024)), np.sort(generator.integers(0, 9, 1024))[::-1]]
    (curve,) = roc_curves([many])
    line = places(str(roc_plot(curve, "ROC")), "line")
    assert len(curve.sensitivity) > 1000
    assert len(line) < 800
    assert len(set(line)) == len(line)
