"""Measures from pooled counts, as JSON and in words; the figures themselves are tested where they are computed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from coordinator.metrics import at, class_names, in_words, measures, roc_curves
from crypto.errors import Malformed
from crypto.layout import CountField, named_counts
from models.statistics import auc_interval, wilson

FIELDS = (
    CountField("cases", ()),
    CountField("loss", ()),
    CountField("confusion", (3, 3)),
    CountField("scores", (3, 2, 4)),
)


def flat(cases=10, loss=12_500, confusion=((4, 1, 0), (0, 3, 0), (1, 0, 1)), scores=None) -> list[int]:
    scores = np.zeros((3, 2, 4), int) if scores is None else scores
    return [cases, loss, *np.array(confusion).ravel(), *np.array(scores).ravel()]


def binned_cases(bins: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each of 400 cases is of the class, its bin, and both histograms [2, bins]."""
    random = np.random.default_rng(5)
    truth = random.integers(0, 2, 400)
    binned = (np.clip(random.normal(0.45 + 0.1 * truth, 0.15), 0, 0.999) * bins // 1).astype(int)
    return truth, binned, np.array([np.bincount(binned[truth == side], minlength=bins) for side in (1, 0)])


def test_counts_are_cut_by_the_layout() -> None:
    named = named_counts(range(35), FIELDS)
    assert int(named["loss"]) == 1
    assert named["confusion"].tolist()[1] == [5, 6, 7]
    assert named["scores"].shape == (3, 2, 4)
    with pytest.raises(Malformed, match="34 counts do not fit a layout of 35"):
        named_counts(range(34), FIELDS)


def test_no_counts_at_all() -> None:
    found = measures({})
    assert (found["cases"], found["class_cases"], found["auc"]) == (0, [], [])
    assert {found[name] for name in ("loss", "accuracy", "macro_auc", "macro_sensitivity")} == {None}


def test_confusion_and_loss() -> None:
    found = measures(named_counts(flat(), FIELDS))
    assert (found["cases"], found["class_cases"]) == (10, [5, 3, 2])
    assert found["loss"] == pytest.approx(1.25)
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["sensitivity"] == pytest.approx([4 / 5, 1, 1 / 2])
    assert found["specificity"] == pytest.approx([4 / 5, 6 / 7, 1])
    assert found["macro_sensitivity"] == pytest.approx(np.mean([4 / 5, 1, 1 / 2]))
    assert found["macro_specificity"] == pytest.approx(np.mean([4 / 5, 6 / 7, 1]))
    assert (found["auc"], found["macro_auc"]) == ([None] * 3, None)


def test_shares_have_wilsons_intervals() -> None:
    intervals = measures(named_counts(flat(), FIELDS))["intervals"]
    expected = {"accuracy": [(8, 10)], "sensitivity": [(4, 5), (3, 3), (1, 2)], "specificity": [(4, 5), (6, 7), (8, 8)]}
    for name, shares in expected.items():
        found = [intervals[name]] if name == "accuracy" else intervals[name]
        assert found == [[each.low, each.high] for share in shares if (each := wilson(*share))]


def test_areas_have_delongs_intervals() -> None:
    truth, binned, histograms = binned_cases()
    found = measures({"scores": np.array([histograms, histograms[::-1]])})
    area = roc_auc_score(truth, binned)
    assert found["auc"] == pytest.approx([area, 1 - area], abs=1e-12)
    assert found["macro_auc"] == pytest.approx(0.5)
    exact = auc_interval(binned, truth == 1)
    assert exact is not None
    assert found["intervals"]["auc"][0] == pytest.approx([exact.low, exact.high])
    low, high = found["intervals"]["macro_auc"]
    assert low < 0.5 < high
    tied = sum((binned[truth == 1] == place).mean() * (binned[truth == 0] == place).mean() for place in range(64)) / 2
    assert found["auc_margin"] == pytest.approx([tied, tied])


def test_a_class_without_cases_and_no_cases_at_all() -> None:
    found = measures(named_counts(flat(confusion=((2, 1, 0), (0, 0, 0), (0, 0, 3))), FIELDS))
    assert (found["sensitivity"][1], found["intervals"]["sensitivity"][1]) == (None, None)
    assert found["specificity"][1] == pytest.approx(5 / 6)
    empty = measures(named_counts([0] * 35, FIELDS))
    assert (empty["cases"], empty["accuracy"], empty["loss"]) == (0, None, None)
    assert empty["intervals"]["accuracy"] is None


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [
        ([0, 4], [4, 0], 1.0),
        ([4, 0], [0, 4], 0.0),
        ([0, 4], [0, 9], 0.5),
        ([0, 0], [1, 1], None),
        ([1, 1], [0, 0], None),
    ],
)
def test_auc_by_hand(positive, negative, expected) -> None:
    assert measures({"scores": np.array([[positive, negative]])})["auc"] == [expected]


def test_macro_auc_leaves_undefined_classes_out() -> None:
    scores = [[[0, 0, 0, 4], [4, 0, 0, 0]], [[0, 0, 0, 0], [3, 3, 1, 1]], [[0, 2, 0, 0], [0, 6, 0, 0]]]
    found = measures(named_counts(flat(scores=scores), FIELDS))
    assert found["auc"] == [1.0, None, 0.5]
    assert found["macro_auc"] == pytest.approx(0.75)


def test_measures_are_json() -> None:
    for counts in ({}, named_counts(flat(), FIELDS), {"scores": binned_cases()[2][None]}):
        found = measures(counts)
        assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_words() -> None:
    found = measures(named_counts(flat(), FIELDS))
    assert in_words(found, "accuracy") == "0.800 (0.490 to 0.943)"
    assert in_words(found, "sensitivity", 2) == "0.500 (0.095 to 0.905)"
    assert in_words(found, "loss") == "1.250"
    assert in_words(found, "auc", 0) == in_words(found, "macro_auc") == in_words(None, "loss") == ""
    assert at(found, "auc", 1) == (None, None)


def test_words_of_a_round_that_was_measured_before_there_were_intervals() -> None:
    old = {"cases": 10, "macro_auc": 0.75, "auc": [1.0, None, 0.5], "sensitivity": [0.8, 1.0, 0.5]}
    assert in_words(old, "macro_auc") == "0.750"
    assert [in_words(old, "auc", place) for place in range(3)] == ["1.000", "", "0.500"]
    assert in_words(old, "specificity", 0) == in_words(old, "loss") == ""


def test_classes_have_the_recipes_names() -> None:
    assert class_names({"network": {"classes": ["normal", "covid-19"]}}, 2) == ["normal", "covid-19"]
    for other in ({}, {"network": {"classes": 2}}, {"network": {"classes": ["normal"]}}):
        assert class_names(other, 2) == ["class 1", "class 2"]


def test_curves_are_those_of_the_cases() -> None:
    truth, binned, histograms = binned_cases()
    found, none = roc_curves([histograms.tolist(), [[0] * 64, [1] * 64]])
    alarms, hits, _ = roc_curve(truth, binned, drop_intermediate=False)
    assert found is not None
    np.testing.assert_allclose(found.false_positive_rate, alarms)
    np.testing.assert_allclose(found.sensitivity, hits)
    assert none is None
    assert roc_curves([]) == []
