"""ROC curves against scikit-learn, and their bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import roc_curve

from models.roc import GRID, roc_band, roc_on_grid, roc_points


@dataclass
class Cases:
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]


def cases(number: int, each: int = 1, apart: float = 1.5) -> Cases:
    """Of two classes; `each` patient has so many, all alike."""
    rng = np.random.default_rng(number)
    labels = np.repeat(rng.integers(0, 2, number), each)
    logits = np.repeat(rng.normal(0, 1, number), each) + apart * labels
    patients = np.repeat(np.arange(number), each).astype(str)
    return Cases(np.stack([expit(-logits), expit(logits)], axis=1), labels, patients)


def test_points_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    scores, positive = rng.integers(0, 12, 200).astype(float), rng.random(200) < 0.3
    false, hits, _ = roc_curve(positive, scores, drop_intermediate=False)
    found = roc_points(scores, positive)
    np.testing.assert_allclose(found[0], false)
    np.testing.assert_allclose(found[1], hits)


def test_a_curve_lies_in_its_band_which_patients_with_many_cases_widen() -> None:
    single, crowded = cases(200), cases(40, each=5)
    widths = []
    for test in (single, crowded):
        low, high = roc_band([test], 1, draws=100)
        curve = roc_on_grid(test, 1)
        assert ((low <= curve) & (curve <= high)).mean() > 0.9
        widths.append(float((high - low).mean()))
    assert widths[1] > 1.5 * widths[0], "as many cases of a fifth of the patients"


def test_without_one_kind_of_case_there_is_no_curve() -> None:
    ill = cases(30)
    ill.labels[:] = 1
    assert np.isnan(roc_on_grid(ill, 1)).all()
    low, high = roc_band([ill], 1, draws=5)
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    assert low.shape == high.shape == GRID.shape


def test_the_ends_of_a_band_follow_its_level() -> None:
    wide, narrow = (roc_band([cases(60)], 1, level=level) for level in (0.95, 0.5))
    assert float((narrow[1] - narrow[0]).mean()) < 0.6 * float((wide[1] - wide[0]).mean())
    assert pytest.approx(1.0) == wide[1][-1]
