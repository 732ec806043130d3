"""Federated against its controls: the right test, honest words, and rounds that count."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.bootstrap import auc_of, bootstrap_difference, macro_auc
from models.statistics import delong_test, holm, mcnemar, mean_difference, mean_interval
from simulation.significance import (
    ACCURACY,
    MACRO_AUC,
    Comparison,
    auc_question,
    compare,
    compare_seeds,
    rounds_to_match,
    sensitivity_question,
)

CLASSES = ("healthy", "covid-19", "bacterial")


def trained(skill: float, labels: np.ndarray, seed: int) -> np.ndarray:
    """A model's probabilities: the larger `skill`, the likelier the true class."""
    raw = np.exp(np.random.default_rng(seed).normal(size=(len(labels), 3)) + skill * np.eye(3)[labels])
    return raw / raw.sum(axis=1, keepdims=True)


@pytest.fixture
def labels() -> np.ndarray:
    return np.arange(240) % 3


@pytest.fixture
def models(labels: np.ndarray) -> dict[str, np.ndarray]:
    alone = np.stack([trained(0.6, labels, seed) for seed in (3, 4, 5)])
    return {"federated": trained(2.0, labels, 1), "centralised": trained(2.0, labels, 2), "local only": alone}


def by_name(found: tuple[Comparison, ...]) -> dict[tuple[str, str], Comparison]:
    return {(each.figure, each.second): each for each in found}


def test_the_first_is_compared_with_every_other_by_every_question(
    models: dict[str, np.ndarray], labels: np.ndarray
) -> None:
    found = by_name(compare(models, labels, resamples=300, seed=2))
    assert list(found) == [
        ("macro AUC", "centralised"),
        ("macro AUC", "local only"),
        ("accuracy", "centralised"),
        ("accuracy", "local only"),
    ]
    local = found["macro AUC", "local only"]
    assert local.difference == bootstrap_difference(
        macro_auc, models["federated"], models["local only"], labels, seed=2, resamples=300
    )
    assert local.of_first.value - local.of_second.value == pytest.approx(local.difference.value)
    assert local.of_first.low < local.of_first.value < local.of_first.high
    assert [each.adjusted_p for each in found.values()] == holm([each.difference.p for each in found.values()])
    assert local.significant
    assert not found["macro AUC", "centralised"].significant


def test_formulas_are_used_where_they_hold(models: dict[str, np.ndarray], labels: np.ndarray) -> None:
    questions = (MACRO_AUC, ACCURACY, auc_question(CLASSES, "covid-19"), sensitivity_question(CLASSES, "bacterial"))
    found = by_name(compare(models, labels, questions=questions, resamples=100))
    first, second = models["federated"], models["centralised"]
    right = [each.argmax(axis=1) == labels for each in (first, second)]
    own = labels == 2
    assert found["accuracy", "centralised"].difference == mcnemar(*right)
    assert found["AUC of covid-19", "centralised"].difference == delong_test(first[:, 1], second[:, 1], labels == 1)
    assert found["sensitivity to bacterial", "centralised"].difference == mcnemar(right[0][own], right[1][own])
    tests = {key: each.test for key, each in found.items()}
    assert tests["accuracy", "centralised"] == tests["sensitivity to bacterial", "centralised"]
    assert tests["accuracy", "centralised"] == "McNemar's exact test"
    assert tests["AUC of covid-19", "centralised"] == "DeLong's test"
    resampled = "bootstrap over patients, 100 resamples"
    assert tests["macro AUC", "centralised"] == tests["accuracy", "local only"] == resampled


def test_several_cases_a_patient_are_resampled_by_patient(models: dict[str, np.ndarray], labels: np.ndarray) -> None:
    del models["local only"]
    owners = np.repeat(np.arange(80), 3)
    (found,) = compare(models, labels, owners, questions=[auc_question(CLASSES, "healthy")], resamples=100)
    assert found.test == "bootstrap over patients, 100 resamples"
    expected = bootstrap_difference(
        auc_of(0), models["federated"], models["centralised"], labels, owners, resamples=100
    )
    assert found.difference == expected
    own_each = [f"patient {number}" for number in range(240)]
    (alone,) = compare(models, labels, own_each, questions=[auc_question(CLASSES, "healthy")], resamples=100)
    assert alone.test == "DeLong's test"


def test_the_words_say_what_was_found_and_no_more(models: dict[str, np.ndarray], labels: np.ndarray) -> None:
    found = by_name(compare(models, labels, questions=[MACRO_AUC], resamples=1000))
    better = found["macro AUC", "local only"].words
    assert better.startswith("macro AUC: federated is higher than local only: 0.")
    assert better.endswith(
        "bootstrap over patients, 1000 resamples, p = 0.004 after Holm's correction for 2 comparisons."
    )
    alike = found["macro AUC", "centralised"].words
    assert alike.startswith("macro AUC: federated and centralised were not told apart: 0.")
    assert "equal" not in alike
    turned = compare(models, labels, first="local only", questions=[MACRO_AUC], resamples=300)
    assert "local only is lower than federated" in by_name(turned)["macro AUC", "federated"].words


def test_a_comparison_is_json(models: dict[str, np.ndarray], labels: np.ndarray) -> None:
    written = json.loads(json.dumps([each.to_json() for each in compare(models, labels, resamples=50)]))
    assert written[0]["first"]["name"] == "federated"
    assert set(written[0]["difference"]) == {"value", "low", "high", "p"}


def test_what_the_cases_do_not_define_is_left_out(models: dict[str, np.ndarray]) -> None:
    found = compare(models, np.zeros(240, int), resamples=50)
    assert {each.figure for each in found} == {"accuracy"}
    assert found[0].together == 2


def test_seeds_are_compared_with_a_paired_test() -> None:
    values = {"federated": [0.93, 0.95, 0.94], "centralised": [0.94, 0.95, 0.96], "local only": [0.81, 0.83, 0.80]}
    found = {each.second: each for each in compare_seeds("macro AUC", values)}
    central, local = found["centralised"], found["local only"]
    assert central.difference == mean_difference(values["federated"], values["centralised"])
    assert central.of_first == mean_interval(values["federated"])
    assert central.of_second == mean_interval(values["centralised"])
    assert not central.significant
    assert local.significant
    assert "paired t-test over 3 seeds" in local.words
    assert local.adjusted_p == pytest.approx(2 * local.difference.p)


def test_a_difference_that_does_not_vary_over_the_seeds_is_not_tested() -> None:
    values = {"federated": [0.75, 1.0], "centralised": [0.5, 0.75], "alone": [0.5, 0.7], "again": [0.75, 1.0]}
    found = compare_seeds("accuracy", values)
    assert [each.second for each in found] == ["alone", "again"]
    assert found[1].difference.p == 1


def test_a_single_comparison_needs_no_correction() -> None:
    (found,) = compare_seeds("AUC", {"federated": [0.93, 0.95], "centralised": [0.90, 0.91]})
    assert found.adjusted_p == found.difference.p
    assert "Holm" not in found.words


def test_what_cannot_be_compared_is_refused(models: dict[str, np.ndarray], labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"no 'fedarated' among federated, centralised, local only"):
        compare(models, labels, first="fedarated")
    with pytest.raises(ValueError, match=r"of centralised have shape \(5, 3\), and there are 240 labels"):
        compare({**models, "centralised": models["centralised"][:5]}, labels)
    with pytest.raises(ValueError, match="run more seeds"):
        compare_seeds("AUC", {"federated": [0.9], "centralised": [0.9]})


@pytest.mark.parametrize(
    ("values", "target", "tolerance", "expected"),
    [
        ([0.5, 0.7, 0.9, 0.92], 0.9, 0.0, 6),
        ([0.5, 0.7, 0.9, 0.92], 0.9, 0.2, 4),
        ([0.5, 0.95, 0.7, 0.92], 0.9, 0.0, 8),  # fell back after round 4
        ([0.5, 0.95, 0.89, 0.92], 0.9, 0.015, 4),
        ([0.95, 0.95, 0.95, 0.95], 0.9, 0.0, 2),
        ([0.5, 0.7, 0.9, 0.89], 0.9, 0.0, None),
        ([], 0.9, 0.0, None),
    ],
)
def test_rounds_to_match(values: list[float], target: float, tolerance: float, expected: int | None) -> None:
    curve = [(2 * number, value) for number, value in enumerate(values, 1)]
    assert rounds_to_match(curve, target, tolerance) == expected
