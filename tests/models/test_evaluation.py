"""Counts that travel and exact figures, held against each other and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import confusion_matrix, log_loss, recall_score, roc_auc_score

from crypto.layout import CountField, named_counts
from crypto.parameters import COUNT_LIMIT
from models.evaluation import Metrics, counts_of, metrics_of
from models.pooled import count_fields, score_edges
from models.statistics import log_odds

C = 4


def cases(n: int, seed: int = 0, classes: int = C) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [n, classes] that know something of their labels [n]."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    scores = generator.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    exponentials = np.exp(scores)
    return exponentials / exponentials.sum(axis=1, keepdims=True), labels


def pooled(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> dict[str, np.ndarray]:
    fields = count_fields(probabilities.shape[1], bins)
    return named_counts(counts_of(probabilities, labels, bins), fields)


def test_the_fields_are_in_their_fixed_order() -> None:
    assert count_fields(3, 64) == (
        CountField("cases", ()),
        CountField("loss", ()),
        CountField("confusion", (3, 3)),
        CountField("scores", (3, 2, 64)),
    )


def test_counts_hold_what_they_say() -> None:
    probabilities, labels = cases(300)
    counts = pooled(probabilities, labels, 16)
    assert counts["cases"] == 300
    assert counts["loss"] == pytest.approx(1000 * 300 * log_loss(labels, probabilities), abs=1)
    assert np.array_equal(counts["confusion"], confusion_matrix(labels, probabilities.argmax(axis=1)))
    for name in range(C):
        for row, chosen in enumerate((labels == name, labels != name)):
            expected, _ = np.histogram(log_odds(probabilities[chosen], name), bins=score_edges(C, 16))
            assert np.array_equal(counts["scores"][name, row], expected)


def test_counts_are_whole_numbers_and_those_of_parts_add_up() -> None:
    probabilities, labels = cases(200)
    whole = counts_of(probabilities, labels, 8)
    parts = [counts_of(probabilities[part], labels[part], 8) for part in (slice(0, 70), slice(70, 70), slice(70, 200))]
    assert all(type(count) is int for count in whole)
    total = np.sum(parts, axis=0)
    assert total[1] == pytest.approx(whole[1], abs=2)
    assert np.array_equal(np.delete(total, 1), np.delete(whole, 1))


def test_probabilities_in_single_precision_fall_into_the_same_bins() -> None:
    probabilities, labels = cases(300)
    single = probabilities.astype(np.float32)
    assert counts_of(single, labels, 64)[2:] == counts_of(single.astype(np.float64), labels, 64)[2:]


def test_certainty_falls_into_the_last_bin_and_its_loss_stays_finite() -> None:
    probabilities = np.array([[1.0, 0.0], [1.0, 0.0]])
    counts = pooled(probabilities, np.array([0, 1]), 4)
    assert counts["scores"][0].tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]
    assert counts["loss"] == 16118


def test_scores_of_sure_models_are_told_apart() -> None:
    """Single precision ends 6e-8 below 1, and both of these are 1 there."""
    logits = np.array([20.0, 30, 40, 50])
    probabilities = np.stack([expit(-logits), expit(logits)], axis=1).astype(np.float32)
    labels = np.array([0, 0, 1, 1])
    assert (probabilities[:, 1] == 1).all()
    assert metrics_of(probabilities, labels).auc == (1, 1)
    scores = pooled(probabilities, labels, 64)["scores"]
    assert np.count_nonzero(scores[1].sum(axis=0)) == 4
    np.testing.assert_array_equal(scores[0], scores[1, ::-1, ::-1])  # of two classes one is the other turned round


def test_a_loss_too_large_to_travel_stops_at_the_largest_count() -> None:
    probabilities, labels = np.tile([1.0, 0.0], (2000, 1)), np.ones(2000, int)
    assert counts_of(probabilities, labels, 2)[1] == COUNT_LIMIT - 1


def test_metrics_agree_with_scikit_learn() -> None:
    probabilities, labels = cases(400)
    predicted = probabilities.argmax(axis=1)
    metrics = metrics_of(probabilities, labels)
    areas = [roc_auc_score(labels == name, probabilities[:, name]) for name in range(C)]
    assert metrics.auc == pytest.approx(areas, abs=1e-6)
    assert metrics.macro_auc == pytest.approx(np.mean(areas), abs=1e-6)
    assert metrics.sensitivity == pytest.approx(recall_score(labels, predicted, average=None))
    specificities = [recall_score(labels != name, predicted != name) for name in range(C)]
    assert metrics.specificity == pytest.approx(specificities)
    assert metrics.accuracy == pytest.approx((predicted == labels).mean())
    assert metrics.loss == pytest.approx(log_loss(labels, probabilities))


def test_a_class_without_cases_has_no_figures_and_breaks_nothing() -> None:
    probabilities, labels = cases(60)
    labels = np.where(labels == 2, 0, labels)
    metrics = metrics_of(probabilities, labels)
    assert metrics.auc[2] is None
    assert metrics.sensitivity[2] is None
    assert metrics.specificity[2] is not None
    others = [area for area in metrics.auc if area is not None]
    assert len(others) == C - 1
    assert metrics.macro_auc == pytest.approx(np.mean(others))


def test_a_site_with_one_class_only_has_its_sensitivity() -> None:
    probabilities, _ = cases(20)
    metrics = metrics_of(probabilities, np.full(20, 1))
    assert metrics.auc == (None,) * C
    assert metrics.macro_auc is None
    assert metrics.sensitivity[1] == metrics.accuracy
    assert metrics.specificity[1] is None
    assert isinstance(metrics, Metrics)


def test_no_cases_are_zero_counts_but_no_metrics() -> None:
    nothing, labels = np.empty((0, 3)), np.empty(0, int)
    assert counts_of(nothing, labels, 4) == [0] * (2 + 9 + 24)
    with pytest.raises(ValueError, match="no cases"):
        metrics_of(nothing, labels)


@pytest.mark.parametrize(
    ("probabilities", "labels", "says"),
    [
        (np.ones((2, 3)), np.zeros(3, int), "do not have shapes"),
        (np.ones(2), np.zeros(2, int), "do not have shapes"),
        (np.full((1, 2), np.nan), np.zeros(1, int), "not numbers"),
        (np.full((1, 2), 1.5), np.zeros(1, int), "lie in"),
        (np.ones((2, 2)), np.array([0, 2]), "labels lie in 0..1"),
        (np.ones((2, 2)), np.array([-1, 0]), "labels lie in 0..1"),
    ],
)
def test_what_is_no_evaluation_is_refused(probabilities: np.ndarray, labels: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        counts_of(probabilities, labels, 4)
