"""Measures from pooled counts, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from coordinator.metrics import histogram_auc, measures
from crypto.errors import Malformed
from crypto.layout import CountField, named_counts

FIELDS = (
    CountField("cases", ()),
    CountField("loss", ()),
    CountField("confusion", (3, 3)),
    CountField("scores", (3, 2, 4)),
)


def flat(cases=10, loss=12_500, confusion=((4, 1, 0), (0, 3, 0), (1, 0, 1)), scores=None) -> list[int]:
    scores = np.zeros((3, 2, 4), int) if scores is None else scores
    return [cases, loss, *np.array(confusion).ravel(), *np.array(scores).ravel()]


def test_counts_are_cut_by_the_layout() -> None:
    named = named_counts(range(35), FIELDS)
    assert int(named["loss"]) == 1
    assert named["confusion"].tolist()[1] == [5, 6, 7]
    assert named["scores"].shape == (3, 2, 4)
    with pytest.raises(Malformed, match="34 counts do not fit a layout of 35"):
        named_counts(range(34), FIELDS)


def test_no_counts_at_all() -> None:
    assert measures(named_counts([], ())) == {}


def test_confusion_and_loss() -> None:
    found = measures(named_counts(flat(), FIELDS))
    assert found["cases"] == 10
    assert found["loss"] == pytest.approx(1.25)
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["sensitivity"] == pytest.approx([4 / 5, 1, 1 / 2])
    assert found["specificity"] == pytest.approx([4 / 5, 6 / 7, 1])
    assert found["auc"] == [None, None, None]
    assert found["macro_auc"] is None


def test_a_class_without_cases_and_no_cases_at_all() -> None:
    found = measures(named_counts(flat(confusion=((2, 1, 0), (0, 0, 0), (0, 0, 3))), FIELDS))
    assert found["sensitivity"][1] is None
    assert found["specificity"][1] == pytest.approx(5 / 6)
    empty = measures(named_counts([0] * 35, FIELDS))
    assert (empty["cases"], empty["accuracy"]) == (0, None)
    assert "loss" not in empty


def test_auc_of_finely_binned_scores_is_the_exact_one() -> None:
    random = np.random.default_rng(5)
    truth = random.integers(0, 2, 400)
    binned = np.clip(random.normal(0.45 + 0.1 * truth, 0.15), 0, 0.999) * 64 // 1
    positive = np.bincount(binned[truth == 1].astype(int), minlength=64)
    negative = np.bincount(binned[truth == 0].astype(int), minlength=64)
    assert histogram_auc(positive, negative) == pytest.approx(roc_auc_score(truth, binned), abs=1e-12)


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
    assert histogram_auc(np.array(positive), np.array(negative)) == expected


def test_macro_auc_leaves_undefined_classes_out() -> None:
    scores = [[[0, 0, 0, 4], [4, 0, 0, 0]], [[0, 0, 0, 0], [3, 3, 1, 1]], [[0, 2, 0, 0], [0, 6, 0, 0]]]
    found = measures(named_counts(flat(scores=scores), FIELDS))
    assert found["auc"] == [1.0, None, 0.5]
    assert found["macro_auc"] == pytest.approx(0.75)
