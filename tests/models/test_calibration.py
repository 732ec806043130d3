"""Proper scores and calibration against scikit-learn, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from models.bootstrap import bootstrap
from models.calibration import brier, brier_of, calibration_error, cross_entropy, reliability
from models.statistics import wilson

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 3, 300)
PROBABILITIES = softmax(RNG.normal(0, 1.5, (300, 3)) + 1.5 * np.eye(3)[LABELS], axis=1).astype(np.float32)
NOBODY = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)


def test_scores_are_scikit_learns() -> None:
    exact = PROBABILITIES.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    assert cross_entropy(PROBABILITIES, LABELS) == pytest.approx(log_loss(LABELS, exact), rel=1e-6)
    by_class = [brier_score_loss(name == LABELS, exact[:, name]) for name in range(3)]
    assert [brier_of(name)(PROBABILITIES, LABELS) for name in range(3)] == pytest.approx(by_class, rel=1e-6)
    assert brier(PROBABILITIES, LABELS) == pytest.approx(sum(by_class), rel=1e-6)


def test_reliability_is_scikit_learns() -> None:
    shares, means = calibration_curve(LABELS == 1, PROBABILITIES[:, 1], n_bins=10)
    found = reliability(PROBABILITIES[:, 1], LABELS == 1)
    assert [each.observed.value for each in found] == pytest.approx(shares)
    assert [each.predicted for each in found] == pytest.approx(means, rel=1e-6)
    assert sum(each.cases for each in found) == 300


def test_calibration_error_by_hand() -> None:
    # Two cases called with 0.65, one right; two with 0.95, both right: |0.5 - 0.65| / 2 + |1 - 0.95| / 2.
    probabilities = np.array([[0.65, 0.35], [0.65, 0.35], [0.05, 0.95], [0.05, 0.95]])
    labels = np.array([0, 1, 1, 1])
    assert calibration_error(probabilities, labels) == pytest.approx(0.1)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0, "the last bin has both its ends"


def test_several_cases_of_a_patient_widen_a_bin() -> None:
    predicted, came = np.full(20, 0.55), np.arange(20) < 10
    (alone,), (together,) = reliability(predicted, came), reliability(predicted, came, np.arange(20) // 10)
    assert alone.observed == wilson(10, 20)
    assert together.observed.value == alone.observed.value
    assert together.observed.high - together.observed.low > alone.observed.high - alone.observed.low


def test_nobody_has_no_scores() -> None:
    for figure in (cross_entropy, brier, brier_of(1), calibration_error):
        assert figure(*NOBODY) is None
    assert reliability(NOBODY[0][:, 1], NOBODY[1] == 1) == ()


def test_a_loss_is_bounded_and_resampled() -> None:
    assert cross_entropy(np.array([[0.0, 1.0]]), np.array([0])) == pytest.approx(16.118, abs=1e-3)
    found = bootstrap(brier, PROBABILITIES, LABELS, resamples=200)
    assert found is not None
    assert found.low < found.value < found.high
