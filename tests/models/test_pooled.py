"""Pooled figures against those of raw scores: how near, and with which intervals."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss, recall_score, roc_auc_score, roc_curve
from sklearn.neural_network import MLPClassifier

from crypto.errors import Malformed
from crypto.layout import CountField, named_counts
from models.bootstrap import bootstrap, macro_auc
from models.evaluation import counts_of
from models.pooled import (
    PooledFigures,
    Roc,
    count_fields,
    figures,
    figures_of_counts,
    roc_of_histograms,
    score_edges,
    tied_margin,
)
from models.statistics import auc_interval, histogram_auc_interval, log_odds, share_interval, wilson

GOAL = 0.005


def softmax_cases(
    n: int, classes: int, scale: float, seed: int, skill: float = 1.5, prior: tuple[float, ...] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Softmax outputs [n, classes] in single precision, as networks give them, whose logits spread by `scale`."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(classes, n, p=prior)
    labels[: 2 * classes] = np.repeat(np.arange(classes), 2)
    logits = scale * (generator.normal(size=(n, classes)) + skill * np.eye(classes)[labels])
    if prior:
        logits += np.log(prior)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32), labels


def pooled(probabilities: np.ndarray, labels: np.ndarray, bins: int = 64) -> PooledFigures:
    return figures_of_counts(counts_of(probabilities, labels, bins), count_fields(probabilities.shape[1], bins))


def curve(probabilities: np.ndarray, labels: np.ndarray, name: int) -> Roc:
    counts = counts_of(probabilities, labels, 64)
    found = roc_of_histograms(*named_counts(counts, count_fields(probabilities.shape[1], 64))["scores"][name])
    assert found is not None
    return found


def errors(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> list[float]:
    """How far each class's pooled area is from that of the raw scores; never farther than the margin says."""
    found = []
    for name, of_class in enumerate(pooled(probabilities, labels, bins).classes):
        assert of_class.auc is not None
        exact = roc_auc_score(labels == name, rankdata(log_odds(probabilities, name)))
        found.append(abs(of_class.auc.value - exact))
        assert found[-1] <= of_class.auc_margin + 1e-9
    return found


def errors_of_even_bins(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> list[float]:
    found = []
    for name, scores in enumerate(probabilities.T):
        exact = roc_auc_score(labels == name, rankdata(log_odds(probabilities, name)))
        histograms = [np.histogram(scores[side], bins, (0, 1))[0] for side in (labels == name, labels != name)]
        area = histogram_auc_interval(*histograms)
        assert area is not None
        found.append(abs(area.value - exact))
    return found


@cache
def digits(epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Softmax outputs of a small network on images that it was not trained on, after so many epochs."""
    images, labels = load_digits(return_X_y=True)
    images = (images - images.mean(axis=0)) / (images.std(axis=0) + 1e-6)
    network = MLPClassifier((64,), learning_rate_init=0.003, random_state=0)
    for _ in range(epochs):
        network.partial_fit(images[::2], labels[::2], classes=np.arange(10))
    return network.predict_proba(images[1::2]).astype(np.float32), labels[1::2]


# --- bins


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("bins", [2, 64, 1024])
def test_edges_are_logits_finest_at_even_chance_and_reach_as_far_up_as_down(classes: int, bins: int) -> None:
    edges = score_edges(classes, bins)
    assert edges.shape == (bins + 1,)
    assert (edges[0], edges[-1]) == (-np.inf, np.inf)
    assert (np.diff(edges) > 0).all()
    if bins > 2:
        inner = edges[1:-1]
        narrowest = expit(inner[int(np.diff(inner).argmin())])
        assert narrowest == pytest.approx(1 / classes, rel=0.2)
    if classes == 2:
        np.testing.assert_allclose(edges, -edges[::-1], atol=1e-12)


@pytest.mark.parametrize("scale", [0.3, 1, 3, 10])
@pytest.mark.parametrize("classes", [2, 3, 6])
def test_64_bins_are_near_enough_for_2000_cases(classes: int, scale: float) -> None:
    assert max(errors(*softmax_cases(2000, classes, scale, seed=classes), bins=64)) < GOAL


@pytest.mark.parametrize("scale", [0.1, 0.3, 1, 3, 10, 30])
@pytest.mark.parametrize("n", [60, 300, 2000])
def test_1024_bins_are_near_enough_for_sharp_flat_and_few_scores(n: int, scale: float) -> None:
    for seed in range(5):
        assert max(errors(*softmax_cases(n, 3, scale, seed), bins=1024)) < GOAL


def test_1024_bins_are_near_enough_for_a_rare_class() -> None:
    rare = softmax_cases(4000, 3, 2.0, seed=1, prior=(0.97, 0.02, 0.01))
    assert max(errors(*rare, bins=1024)) < GOAL
    assert max(errors_of_even_bins(*rare, bins=64)) > 2 * GOAL


@pytest.mark.parametrize("epochs", [1, 3, 10, 100])
def test_64_bins_are_near_enough_for_a_networks_outputs_from_fresh_to_overfitted(epochs: int) -> None:
    probabilities, labels = digits(epochs)
    assert max(errors(probabilities, labels, bins=64)) < GOAL


def test_even_bins_would_not_do() -> None:
    assert max(errors_of_even_bins(*digits(100), bins=64)) > GOAL
    assert max(errors_of_even_bins(*softmax_cases(2000, 3, 10, seed=3), bins=64)) > 5 * GOAL


def test_the_area_pooled_over_sites_is_that_of_all_their_scores() -> None:
    probabilities, labels = softmax_cases(900, 3, 2.0, seed=4)
    sites = np.array_split(np.random.default_rng(0).permutation(900), 5)
    summed = np.sum([counts_of(probabilities[site], labels[site], 64) for site in sites], axis=0)
    found = figures_of_counts(summed, count_fields(3, 64))
    for name in range(3):
        of_class = found.classes[name].auc
        assert of_class is not None
        assert of_class.value == pytest.approx(roc_auc_score(labels == name, probabilities[:, name]), abs=GOAL)


def test_the_margin_is_reached_where_a_bin_hides_the_order() -> None:
    probabilities, labels = np.array([[0.6, 0.4], [0.61, 0.39]]), np.array([0, 1])
    found = pooled(probabilities, labels, 2).classes[0]
    assert found.auc is not None
    assert (found.auc.value, found.auc_margin) == (0.5, 0.5)
    assert tied_margin(np.array([0, 1]), np.array([0, 0])) == 0


# --- figures and their intervals


def test_figures_are_those_of_the_cases() -> None:
    probabilities, labels = softmax_cases(400, 3, 1.0, seed=5)
    predicted, found = probabilities.argmax(axis=1), pooled(probabilities, labels)
    assert found.cases == 400
    assert found.loss == pytest.approx(log_loss(labels, probabilities), abs=1e-4)
    assert found.accuracy == share_interval(predicted == labels)
    assert found.accuracy is not None
    assert found.accuracy.value == pytest.approx(accuracy_score(labels, predicted))
    recalls = recall_score(labels, predicted, average=None)
    assert found.macro_sensitivity == pytest.approx(np.mean(recalls))
    specificities = [recall_score(labels != name, predicted != name) for name in range(3)]
    assert found.macro_specificity == pytest.approx(np.mean(specificities))
    for name, of_class in enumerate(found.classes):
        own = labels == name
        assert of_class.cases == own.sum()
        assert of_class.sensitivity == wilson(int((own & (predicted == name)).sum()), int(own.sum()))
        assert of_class.specificity == wilson(int((~own & (predicted != name)).sum()), int((~own).sum()))
        assert of_class.sensitivity is not None
        assert of_class.sensitivity.value == pytest.approx(recalls[name])
        exact = auc_interval(log_odds(probabilities, name), own)
        assert exact is not None
        assert of_class.auc is not None
        assert (of_class.auc.value, of_class.auc.low, of_class.auc.high) == pytest.approx(
            (exact.value, exact.low, exact.high), abs=GOAL
        )


def test_the_macro_interval_is_no_narrower_than_the_resampled_one() -> None:
    probabilities, labels = softmax_cases(500, 3, 1.0, seed=6, skill=1.0)
    found, resampled = pooled(probabilities, labels).macro_auc, bootstrap(macro_auc, probabilities, labels)
    assert found is not None
    assert resampled is not None
    assert found.value == pytest.approx(resampled.value, abs=GOAL)
    widths = found.high - found.low, resampled.high - resampled.low
    assert widths[1] < widths[0] < 2 * widths[1]


def test_a_class_without_cases_is_left_out_of_the_means() -> None:
    probabilities, labels = softmax_cases(100, 3, 1.0, seed=7)
    found = pooled(probabilities, np.where(labels == 2, 0, labels))
    empty = found.classes[2]
    assert (empty.cases, empty.auc, empty.sensitivity, empty.auc_margin) == (0, None, None, 0)
    assert empty.specificity is not None
    areas = [each.auc.value for each in found.classes[:2] if each.auc]
    assert found.macro_auc is not None
    assert found.macro_auc.value == pytest.approx(np.mean(areas))


def test_a_single_case_of_a_class_leaves_nearly_everything_open() -> None:
    labels = np.array([0] + [1] * 30)
    probabilities = np.stack([np.linspace(0.9, 0.1, 31), np.linspace(0.1, 0.9, 31)], axis=1)
    found = pooled(probabilities, labels).macro_auc
    assert found == wilson(1, 1)


def test_no_cases_have_no_figures() -> None:
    found = pooled(np.empty((0, 2)), np.empty(0, int))
    assert (found.cases, found.loss, found.accuracy, found.macro_auc, found.macro_sensitivity) == (0, *[None] * 4)


def test_a_field_that_was_not_counted_has_no_figures_and_takes_none_from_the_others() -> None:
    probabilities, labels = softmax_cases(50, 2, 1.0, seed=8)
    counts, whole = (
        named_counts(counts_of(probabilities, labels, 64), count_fields(2, 64)),
        pooled(probabilities, labels),
    )
    unscored = figures({name: counts[name] for name in ("cases", "confusion")})
    assert (unscored.loss, unscored.macro_auc, unscored.accuracy) == (None, None, whole.accuracy)
    assert [each.auc for each in unscored.classes] == [None, None]
    assert [each.sensitivity for each in unscored.classes] == [each.sensitivity for each in whole.classes]
    scored = figures({"scores": counts["scores"]})
    assert (scored.cases, scored.accuracy, scored.macro_auc) == (0, None, whole.macro_auc)
    assert figures({}).classes == ()


def test_counts_of_other_fields_have_no_figures() -> None:
    with pytest.raises(ValueError, match="figures need cases, loss, confusion and scores, not cases"):
        figures_of_counts([3], (CountField("cases", ()),))
    with pytest.raises(Malformed, match="5 counts do not fit a layout of 14"):
        figures_of_counts([0] * 5, count_fields(2, 2))


def test_counts_that_do_not_belong_together_have_shares_within_0_and_1() -> None:
    counts = {"cases": np.array(1), "loss": np.array(0), "confusion": np.array([[5, 0], [0, 7]])}
    found = figures(counts).accuracy
    assert found is not None
    assert (found.value, found.high) == (1, 1)


# --- the curve


def test_the_curve_runs_through_scikit_learns_points() -> None:
    probabilities, labels = softmax_cases(500, 2, 1.0, seed=9)
    found = curve(probabilities, labels, 1)
    edges = score_edges(2, 64)
    binned = np.searchsorted(edges[1:-1], log_odds(probabilities, 1), side="right")
    alarms, hits, _ = roc_curve(labels == 1, binned, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, alarms)
    np.testing.assert_allclose(found.sensitivity, hits)
    assert np.trapezoid(found.sensitivity, found.false_positive_rate) == pytest.approx(
        roc_auc_score(labels == 1, binned)
    )


def test_the_band_holds_the_curve_and_reaches_its_ends() -> None:
    found = curve(*softmax_cases(80, 2, 1.0, seed=10), 0)
    assert (found.low <= found.sensitivity).all()
    assert (found.sensitivity <= found.high).all()
    assert found.low[0] == 0
    assert found.high[-1] == 1
    assert all((np.diff(line) >= 0).all() for line in (found.low, found.high, found.false_positive_rate))


def test_the_band_covers_the_true_curve_point_by_point() -> None:
    edges, at = score_edges(2, 1024), np.array([0.1, 0.3, 0.5])
    # Scores whose negatives are even in [0, 1] and whose positives are their square roots: sensitivity 1 - (1 - x)^2.
    truth = 1 - (1 - at) ** 2
    inside = []
    for seed in range(400):
        generator = np.random.default_rng(seed)
        scores = np.sqrt(generator.random(60)), generator.random(80)
        found = roc_of_histograms(*(np.histogram(4 * side - 2, edges)[0] for side in scores))
        assert found is not None
        low, high = (np.interp(at, found.false_positive_rate, line) for line in (found.low, found.high))
        inside.append((low <= truth) & (truth <= high))
    assert (np.mean(inside, axis=0) >= 0.95).all()


def test_a_curve_needs_both_sides() -> None:
    nothing, some = np.zeros(4, int), np.array([0, 1, 0, 2])
    assert roc_of_histograms(nothing, some) is None
    assert roc_of_histograms(some, nothing) is None
