"""Figures against scikit-learn, resampled intervals against formulas and by coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, softmax
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

from models.bootstrap import (
    Figure,
    accuracy,
    auc_of,
    bootstrap,
    bootstrap_difference,
    macro_auc,
    sensitivity_of,
    specificity_of,
)
from models.statistics import auc_interval, delong_test, mcnemar, share_interval, wilson


def cases(n: int, skill: float = 1.0, seed: int = 0, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    raw = np.exp(generator.normal(size=(n, classes)) + skill * np.eye(classes)[labels])
    return raw / raw.sum(axis=1, keepdims=True), labels


def test_figures_agree_with_scikit_learn() -> None:
    probabilities, labels = cases(120)
    predicted = probabilities.argmax(axis=1)
    assert accuracy(probabilities, labels) == pytest.approx(accuracy_score(labels, predicted))
    assert macro_auc(probabilities, labels) == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"))
    for name in range(3):
        own = labels == name
        assert auc_of(name)(probabilities, labels) == pytest.approx(roc_auc_score(own, probabilities[:, name]))
        assert sensitivity_of(name)(probabilities, labels) == pytest.approx(recall_score(own, predicted == name))
        assert specificity_of(name)(probabilities, labels) == pytest.approx(recall_score(~own, predicted != name))


def test_the_area_counts_ties_one_half() -> None:
    probabilities, labels = cases(200, classes=2)
    tenths = np.round(probabilities[:, 1], 1)
    coarse = np.stack([1 - tenths, tenths], axis=1)
    assert auc_of(1)(coarse, labels) == pytest.approx(roc_auc_score(labels == 1, tenths))


def test_both_of_two_classes_have_the_same_area_however_sure_the_model_is() -> None:
    generator = np.random.default_rng(5)
    labels = np.arange(80) % 2
    logits = 40 * (generator.normal(size=80) + labels)
    probabilities = np.stack([expit(-logits), expit(logits)], axis=1).astype(np.float32)
    assert (probabilities[:, 1] == 1).sum() > 10
    areas = [auc_of(name)(probabilities, labels) for name in range(2)]
    assert areas == pytest.approx([roc_auc_score(labels, logits)] * 2)


@pytest.mark.parametrize("figure", [accuracy, macro_auc, auc_of(0), sensitivity_of(0), specificity_of(0)])
def test_no_cases_have_no_figure(figure: Figure) -> None:
    nothing, labels = np.empty((0, 3)), np.empty(0, int)
    assert figure(nothing, labels) is None
    assert bootstrap(figure, nothing, labels) is None
    assert bootstrap_difference(figure, nothing, nothing, labels) is None


def test_the_resampled_intervals_are_near_those_by_formula() -> None:
    probabilities, labels = cases(400, classes=2)
    pairs = [
        (bootstrap(auc_of(1), probabilities, labels), auc_interval(probabilities[:, 1], labels == 1)),
        (bootstrap(accuracy, probabilities, labels), share_interval(probabilities.argmax(axis=1) == labels)),
    ]
    for resampled, formula in pairs:
        assert resampled is not None
        assert formula is not None
        assert (resampled.value, resampled.low, resampled.high) == pytest.approx(
            (formula.value, formula.low, formula.high), abs=0.006
        )


def test_the_resampled_tests_are_near_those_by_formula() -> None:
    first, labels = cases(400, classes=2, skill=1.2)
    second = np.roll(first, 3, axis=0) * 0.3 + first * 0.7
    area = bootstrap_difference(auc_of(1), first, second, labels)
    delong = delong_test(first[:, 1], second[:, 1], labels == 1)
    share = bootstrap_difference(accuracy, first, second, labels)
    exact = mcnemar(first.argmax(axis=1) == labels, second.argmax(axis=1) == labels)
    for resampled, formula in ((area, delong), (share, exact)):
        assert resampled is not None
        assert formula is not None
        assert resampled.value == pytest.approx(formula.value)
        assert (resampled.low, resampled.high) == pytest.approx((formula.low, formula.high), abs=0.006)
        assert resampled.p == pytest.approx(formula.p, abs=0.03)


def test_a_seed_decides_everything() -> None:
    probabilities, labels = cases(60)
    again = bootstrap(macro_auc, probabilities, labels, seed=4)
    assert again == bootstrap(macro_auc, probabilities, labels, seed=4)
    assert again != bootstrap(macro_auc, probabilities, labels, seed=5)


def test_copies_of_a_patients_case_add_nothing() -> None:
    probabilities, labels = cases(50)
    owners = np.repeat(np.arange(50), 6)
    single = bootstrap(macro_auc, probabilities, labels)
    tenfold = bootstrap(macro_auc, np.repeat(probabilities, 6, axis=0), np.repeat(labels, 6), owners)
    naive = bootstrap(macro_auc, np.repeat(probabilities, 6, axis=0), np.repeat(labels, 6))
    assert single is not None
    assert tenfold is not None
    assert naive is not None
    assert (tenfold.low, tenfold.high) == pytest.approx((single.low, single.high))
    assert naive.high - naive.low < 0.6 * (single.high - single.low)


def test_the_interval_of_clustered_cases_covers() -> None:
    generator = np.random.default_rng(1)
    owners, truth = np.repeat(np.arange(50), 4), stats.norm.cdf(1 / np.sqrt(2))
    hits = []
    for seed in range(150):
        labels = np.repeat(np.arange(50) % 2, 4)
        # Half of the variance is the patient's own.
        scores = generator.normal(size=50)[owners] * np.sqrt(0.5) + generator.normal(size=200) * np.sqrt(0.5) + labels
        models = np.stack([expit(-scores), expit(scores)], axis=1)
        found = bootstrap(auc_of(1), models, labels, owners, seed=seed, resamples=300)
        assert found is not None
        hits.append(found.low <= truth <= found.high)
    assert 0.88 <= np.mean(hits) <= 0.99


def test_the_difference_of_like_models_is_seldom_significant() -> None:
    generator = np.random.default_rng(2)
    labels = np.arange(60) % 3
    ps = []
    for seed in range(150):
        shared = generator.normal(size=(60, 3)) + np.eye(3)[labels]
        first, second = (softmax(shared + generator.normal(size=(60, 3)), axis=1) for _ in range(2))
        found = bootstrap_difference(macro_auc, first, second, labels, seed=seed, resamples=300)
        assert found is not None
        ps.append(found.p)
    assert 0.01 <= np.mean(np.array(ps) < 0.05) <= 0.11


def test_several_models_stand_for_their_mean() -> None:
    labels = cases(80)[1]
    stack = np.stack([cases(80, skill, seed)[0] for skill, seed in ((0.5, 1), (1.0, 2))])
    alone = [macro_auc(each, labels) for each in stack]
    found = bootstrap(macro_auc, stack, labels)
    assert found is not None
    assert found.value == pytest.approx(np.mean(np.array(alone, float)))
    apart = bootstrap_difference(macro_auc, stack[0], stack, labels)
    assert apart is not None
    assert alone[0] is not None
    assert apart.value == pytest.approx(alone[0] - found.value)


def test_a_model_is_not_told_apart_from_itself() -> None:
    probabilities, labels = cases(40)
    found = bootstrap_difference(macro_auc, probabilities, probabilities, labels)
    assert found is not None
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_the_better_model_is_found() -> None:
    good, labels = cases(200, skill=3.0)
    bad = np.random.default_rng(3).dirichlet(np.ones(3), 200)
    found = bootstrap_difference(macro_auc, good, bad, labels)
    assert found is not None
    assert found.low > 0.3
    assert found.p == pytest.approx(2 / 2001)


def test_perfection_on_few_patients_is_doubted() -> None:
    labels = np.repeat([0, 0, 0, 1, 1], 2)
    probabilities = np.eye(2)[labels]
    found = bootstrap(macro_auc, probabilities, labels, np.repeat(np.arange(5), 2))
    assert found == wilson(2, 2)


def test_resamples_without_a_class_are_left_out_until_too_many_are() -> None:
    probabilities, labels = cases(30)
    one_rare = np.where(np.arange(30) == 0, 2, labels % 2)
    found = bootstrap(macro_auc, probabilities, one_rare)
    assert found is not None
    assert 0 < found.low < found.high <= 1
    four, three_single = cases(30, classes=4)[0], np.array([0, 1, 2] + [3] * 27)
    assert bootstrap(macro_auc, four, three_single) is None
    assert bootstrap_difference(macro_auc, four, four, three_single) is None
