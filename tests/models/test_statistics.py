"""Intervals and tests against scipy, against pairs counted one by one, against published examples, and by coverage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from models.statistics import (
    Difference,
    Interval,
    area_interval,
    auc_interval,
    auc_variance,
    delong_test,
    histogram_auc_interval,
    holm,
    log_odds,
    mcnemar,
    mean_difference,
    mean_interval,
    numbered,
    share_interval,
    tallied,
    wilson,
)


def ordered(cases: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pair by pair [cases, others]: 1 in order, 1/2 tied, 0 not."""
    return (cases[:, None] > others[None, :]) + (cases[:, None] == others[None, :]) / 2


def scored(n: int, skill: float, seed: int, ties: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    positive = generator.random(n) < 0.4
    positive[:4] = True, False, True, False
    scores = generator.normal(size=n) + skill * positive
    return (np.round(scores * ties) / ties if ties else scores), positive


def covered(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))


# --- shares


@pytest.mark.parametrize(
    ("right", "cases", "low", "high"),  # Newcombe, Statistics in Medicine 1998, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_examples(right: int, cases: int, low: float, high: float) -> None:
    found = wilson(right, cases)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((right / cases, low, high), abs=5e-5)


@pytest.mark.parametrize(("right", "cases", "level"), [(0, 1, 0.95), (3, 3, 0.9), (17, 40, 0.99)])
def test_wilson_agrees_with_scipy(right: int, cases: int, level: float) -> None:
    expected = stats.binomtest(right, cases).proportion_ci(level, method="wilson")
    found = wilson(right, cases, level)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_cases_have_no_share() -> None:
    assert wilson(0, 0) is None
    assert share_interval(np.empty(0, bool)) is None
    assert share_interval(np.empty(0, bool), []) is None
    assert mcnemar(np.empty(0, bool), np.empty(0, bool)) is None


def test_a_share_of_single_cases_is_wilsons_with_or_without_patients() -> None:
    right = np.random.default_rng(0).random(50) < 0.7
    plain, owned = share_interval(right), share_interval(right, [f"p{number}" for number in range(50)])
    assert plain == wilson(int(right.sum()), 50)
    assert plain is not None
    assert owned is not None
    assert (owned.low, owned.high) == pytest.approx((plain.low, plain.high), abs=0.003)


def test_copies_of_a_case_add_nothing() -> None:
    right = np.array([True] * 12 + [False] * 8)
    tenfold = share_interval(np.repeat(right, 10), np.repeat(np.arange(20), 10))
    single = wilson(12 / 20 * 19, 19)
    assert tenfold is not None
    assert single is not None
    assert (tenfold.low, tenfold.high) == pytest.approx((single.low, single.high))
    certain = share_interval(np.ones(40, bool), np.repeat(np.arange(4), 10))
    assert certain == wilson(4, 4)


def test_the_share_interval_of_clustered_cases_covers() -> None:
    generator = np.random.default_rng(1)
    owners = np.repeat(np.arange(60), 5)
    clustered, naive = [], []
    for _ in range(600):
        right = generator.random(300) < generator.beta(1.6, 0.4, 60)[owners]
        clustered.append(share_interval(right, owners))
        naive.append(share_interval(right))
    assert 0.92 <= covered(clustered, 0.8) <= 0.98
    assert covered(naive, 0.8) < 0.85


def test_mcnemar_is_the_exact_test_of_the_cases_that_differ() -> None:
    first = np.array([True] * 60 + [True] * 15 + [False] * 5 + [False] * 20)
    second = np.array([True] * 60 + [False] * 15 + [True] * 5 + [False] * 20)
    found = mcnemar(first, second)
    assert found is not None
    assert found.value == pytest.approx(0.10)
    assert found.p == pytest.approx(stats.binomtest(5, 20).pvalue)
    centre, half = 10 / 102, 1.959964 * np.sqrt(21 - 100 / 102) / 102
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_mcnemar_of_one_model_with_itself() -> None:
    right = np.array([True, False, True])
    found = mcnemar(right, right)
    assert found is not None
    assert (found.value, found.p) == (0, 1)
    assert found.low < 0 < found.high


def test_mcnemars_interval_covers() -> None:
    generator = np.random.default_rng(2)
    intervals = []
    for _ in range(1500):
        kind = generator.choice(4, 50, p=[0.6, 0.2, 0.1, 0.1])  # both, first alone, second alone, none
        intervals.append(mcnemar(kind <= 1, (kind == 0) | (kind == 2)))
    assert 0.93 <= covered(intervals, 0.1) <= 0.98


# --- areas


@pytest.mark.parametrize("ties", [None, 1, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_area_and_its_variance_are_those_of_all_pairs(ties: int | None, seed: int) -> None:
    scores, positive = scored(60, 1.0, seed, ties)
    pairs = ordered(scores[positive], scores[~positive])
    found = auc_variance(*tallied(scores, positive))
    assert found is not None
    area, variance = found
    assert area == pytest.approx(pairs.mean())
    assert area == pytest.approx(roc_auc_score(positive, scores))
    components = [pairs.mean(axis=1), pairs.mean(axis=0)]
    assert variance == pytest.approx(sum(each.var(ddof=1) / len(each) for each in components))


def test_the_published_ratings_of_hanley_and_mcneil() -> None:
    # Radiology 1982: ratings 1 to 5 of 109 CT images; the standard error by DeLong's method is 0.0307 and its interval
    # without the logit 0.83295 to 0.95339, as Stata's manual prints them.
    abnormal, normal = np.array([3, 2, 2, 11, 33]), np.array([33, 6, 6, 11, 2])
    found = auc_variance(abnormal, normal)
    assert found is not None
    area, variance = found
    assert area == pytest.approx(0.8932, abs=5e-5)
    assert np.sqrt(variance) == pytest.approx(0.0307, abs=5e-5)
    assert area - 1.959964 * np.sqrt(variance) == pytest.approx(0.83295, abs=1e-5)
    interval = histogram_auc_interval(abnormal, normal)
    assert interval is not None
    assert 0.81 < interval.low < 0.83295
    assert interval.high < 0.95339


def test_a_histogram_of_rounded_scores_is_those_scores() -> None:
    scores, positive = scored(200, 1.0, 3, ties=3)
    bins = np.round((scores - scores.min()) * 3).astype(int)
    histograms = [np.bincount(bins[side], minlength=bins.max() + 3) for side in (positive, ~positive)]
    from_bins, from_scores = histogram_auc_interval(*histograms), auc_interval(scores, positive)
    assert from_bins is not None
    assert from_scores is not None
    assert (from_bins.value, from_bins.low, from_bins.high) == pytest.approx(
        (from_scores.value, from_scores.low, from_scores.high)
    )


@pytest.mark.parametrize(("skill", "n"), [(0.0, 40), (1.0, 40), (2.0, 60), (2.0, 300)])
def test_the_area_interval_covers(skill: float, n: int) -> None:
    truth = stats.norm.cdf(skill / np.sqrt(2))
    intervals = [auc_interval(*scored(n, skill, seed)) for seed in range(1000)]
    assert 0.93 <= covered(intervals, truth) <= 0.98


def test_cases_all_in_order_leave_doubt_that_falls_with_their_number() -> None:
    few, many = (auc_interval(np.arange(2 * n), np.arange(2 * n) >= n) for n in (5, 500))
    assert few == wilson(5, 5)
    assert many == wilson(500, 500)
    worst = auc_interval(np.array([0.9, 0.1]), np.array([False, True]))
    assert worst == wilson(0, 1)


def test_a_single_case_on_one_side_is_worth_one_case() -> None:
    found = auc_interval(np.array([0.5, 0.1, 0.9]), np.array([True, False, False]))
    assert found == wilson(0.5, 1)


def test_scores_that_are_all_the_same() -> None:
    found = auc_interval(np.full(20, 0.5), np.arange(20) < 8)
    assert found == wilson(4, 8)


def test_one_side_only_has_no_area() -> None:
    assert auc_interval(np.array([0.1, 0.9]), np.array([True, True])) is None
    assert auc_interval(np.empty(0), np.empty(0, bool)) is None
    assert histogram_auc_interval(np.array([0, 0]), np.array([1, 2])) is None


def test_an_area_interval_ends_within_0_and_1() -> None:
    found = area_interval(0.99, 0.02**2, 30)
    assert 0.5 < found.low < 0.99 < found.high < 1


def test_delongs_test_is_that_of_all_pairs() -> None:
    first, positive = scored(80, 1.2, 4, ties=5)
    second = first * 0.5 + np.random.default_rng(5).normal(size=80)
    apart = ordered(first[positive], first[~positive]) - ordered(second[positive], second[~positive])
    sides = apart.mean(axis=1), apart.mean(axis=0)
    deviation = np.sqrt(sum(side.var(ddof=1) / len(side) for side in sides))
    found = delong_test(first, second, positive)
    assert found is not None
    assert found.value == pytest.approx(apart.mean())
    assert found.value == pytest.approx(roc_auc_score(positive, first) - roc_auc_score(positive, second))
    assert found.high - found.low == pytest.approx(2 * 1.959964 * deviation, rel=1e-6)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(apart.mean()) / deviation))
    back = delong_test(second, first, positive)
    assert back is not None
    assert (back.value, back.low, back.high, back.p) == pytest.approx((-found.value, -found.high, -found.low, found.p))


def test_delongs_test_errs_as_often_as_it_says() -> None:
    generator = np.random.default_rng(6)
    positive = np.arange(80) < 40
    ps = []
    for _ in range(1000):
        shared = generator.normal(size=80) + positive
        found = delong_test(shared + generator.normal(size=80), shared + generator.normal(size=80), positive)
        assert found is not None
        ps.append(found.p)
    assert 0.03 <= np.mean(np.array(ps) < 0.05) <= 0.07
    assert 0.15 <= np.mean(np.array(ps) < 0.2) <= 0.25


def test_log_odds_tell_scores_apart_that_are_both_1_in_single_precision() -> None:
    logits = np.array([[30.0, 0], [40, 0], [0, 20], [0, 120], [200, 0]])
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    assert len(np.unique(probabilities[:, 0])) < len(np.unique(probabilities[:, 1]))
    first, second = log_odds(probabilities, 0), log_odds(probabilities, 1)
    assert first.dtype == np.float64
    np.testing.assert_array_equal(first, -second)
    np.testing.assert_allclose(first, [30, 40, -20, -np.inf, np.inf], atol=1e-6)
    assert auc_interval(first, np.array([False, True, False, False, True])) == Interval(1, *ends_of_two_of_two())


def ends_of_two_of_two() -> tuple[float, float]:
    found = wilson(2, 2)
    assert found is not None
    return found.low, found.high


def test_log_odds_of_three_classes_are_those_of_one_against_the_rest() -> None:
    raw = np.random.default_rng(3).dirichlet(np.ones(3), 50)
    np.testing.assert_allclose(log_odds(raw, 1), np.log(raw[:, 1] / (1 - raw[:, 1])))
    assert log_odds(np.empty((0, 3)), 0).shape == (0,)


def test_delongs_test_where_nothing_varies() -> None:
    scores, positive = scored(30, 1.0, 7)
    assert delong_test(scores, 2 * scores + 1, positive) == Difference(0, 0, 0, 1)
    ordered_all = positive.astype(float)
    assert delong_test(ordered_all, -ordered_all, positive) is None
    assert delong_test(scores[:3], scores[:3], np.array([True, False, False])) is None


# --- seeds


def test_the_mean_over_seeds_has_students_interval() -> None:
    values = [0.91, 0.93, 0.90]
    found = mean_interval(values)
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.value == pytest.approx(np.mean(values))


def test_seeds_are_compared_pair_by_pair() -> None:
    first, second = [0.91, 0.93, 0.90, 0.95], [0.90, 0.90, 0.89, 0.91]
    found, expected = mean_difference(first, second), stats.ttest_rel(first, second)
    assert found is not None
    assert found.p == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
    assert mean_difference(first, first) == Difference(0, 0, 0, 1)
    assert mean_difference([0.75, 1.0], [0.5, 0.75]) is None
    assert mean_difference([0.3, 0.2, 0.1], [0.2, 0.1, 0.0]) is None  # the same but for rounding
    assert mean_difference([0.1 + 0.2, 0.3], [0.3, 0.3]) == Difference(0, 0, 0, 1)


def test_one_seed_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two or more, not 1: run more seeds"):
        mean_interval([0.9])
    with pytest.raises(ValueError, match="shorter"):
        mean_difference([0.9, 0.8], [0.9])


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holms_correction_keeps_the_false_alarms_of_a_table_down() -> None:
    generator = np.random.default_rng(8)
    alarms = [min(holm(generator.random(5).tolist())) < 0.05 for _ in range(4000)]
    assert 0.04 <= np.mean(alarms) <= 0.06


def test_patients_are_numbered_and_belong_to_cases() -> None:
    assert numbered(["b", "a", "b"], 3).tolist() == [1, 0, 1]
    assert numbered(None, 2).tolist() == [0, 1]
    with pytest.raises(ValueError, match="2 patients do not belong to 3 cases"):
        numbered(["a", "b"], 3)


def test_figures_print_themselves() -> None:
    assert str(Interval(0.9, 0.8512, 0.95)) == "0.900 (0.851 to 0.950)"
    assert str(Difference(0.1, 0.0, 0.2, 0.04)) == "+0.100 (+0.000 to +0.200, p = 0.040)"
    assert str(Difference(-0.1, -0.2, -0.05, 1e-5)) == "-0.100 (-0.200 to -0.050, p < 0.001)"
    assert Difference(0.1, 0.0, 0.2, 0.04).to_json() == {"value": 0.1, "low": 0.0, "high": 0.2, "p": 0.04}


def test_more_confidence_is_wider() -> None:
    scores, positive = scored(60, 1.0, 9)
    widths = []
    for level in (0.8, 0.95, 0.99):
        found = auc_interval(scores, positive, level)
        assert found is not None
        widths.append(found.high - found.low)
    assert all(narrow < wide for narrow, wide in itertools.pairwise(widths))
