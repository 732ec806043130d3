"""An opened mean is the float64 mean, within what the protocol's section 4 states: for every recipe, its own layout,
weights and number of sites. VGG-16, of 27 and 41 million values, is left to `python -m benchmarks.encryption_error`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import encryption_error
from benchmarks.encryption_error import LIMIT, LIMIT_WEIGHT, Row, fallen, measure
from crypto.layout import Layout, Tensor
from models.recipe import available

QUICK = ("chexnet-transfer", "intermittent-cnn", "intermittent-cnn-carried", "ucadi-dynamic")
SLOW = [name for name in available() if name not in QUICK and not name.startswith("vgg16-")]


@pytest.mark.parametrize("recipe", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_an_opened_mean_is_the_float64_mean(recipe: str) -> None:
    rows = list(measure(recipe))
    assert [row.round for row in rows] == [1, 2, 3]
    for row in rows:
        assert 0 < row.error < LIMIT
        assert row.weight >= LIMIT_WEIGHT - 1e-3
        assert row.lost < 1e-6, "what is not sent is kept for the next round"
    assert rows[0].clipped == 0


def test_what_clipping_cuts_off_is_accounted_for() -> None:
    first, second, third = measure("intermittent-cnn")
    assert first.clipped == 0 < third.clipped < second.clipped


def test_a_mean_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sites' weights swapped for equal ones: nothing else changes."""
    monkeypatch.setattr(encryption_error, "weight", lambda plan, units: 1.0)
    assert max(row.error for row in measure("chexnet-transfer")) > LIMIT


def test_bounds_fall_below_the_largest_value() -> None:
    layout = Layout(
        (Tensor("weight", (2,), "parameter"), Tensor("bias", (1,), "parameter"), Tensor("mean", (2,), "buffer"))
    )
    update = np.array([0.2, -0.9, 0.5, 0, 0], np.float32)
    assert fallen([update / 2, update], layout) == [0.5, 0.25, 2.0**-16]


def test_a_row_above_its_limit_fails() -> None:
    row = Row("any", 1, 3, 3, "equal", 1, 1.0, 0, 2e-6, 1e-6, 0.0, 0.0)
    assert not row.holds
    assert replace(row, error=9e-7).holds
