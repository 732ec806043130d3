"""An evaluation's figures against scikit-learn, and the files that it is written to."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import judged
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, recall_score, roc_auc_score

from participant.evaluation.predictions import Predictions
from participant.evaluation.readers import Readers
from participant.evaluation.report import html_of, markdown_of, notes_on, write_report
from participant.evaluation.result import Evaluation, evaluated

CALLS = {reader: {place: (place + number) % 3 for place in range(50)} for number, reader in enumerate("ABC")}


def evaluation(predictions: Predictions | None = None, readers: Readers | None = None) -> Evaluation:
    return evaluated(judged.SUBJECT, predictions or judged.predictions(), readers, resamples=200, draws=30)


def test_figures_are_scikit_learns() -> None:
    cases = judged.predictions(90)
    found, called = evaluation(cases), cases.probabilities.argmax(axis=1)
    exact = cases.probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    assert found.confusion == tuple(map(tuple, confusion_matrix(cases.labels, called).tolist()))
    for figure, expected in (
        (found.accuracy, accuracy_score(cases.labels, called)),
        (found.macro_auc, roc_auc_score(cases.labels, exact, multi_class="ovr")),
        (found.loss, log_loss(cases.labels, exact)),
    ):
        assert figure is not None
        assert figure.value == pytest.approx(expected, rel=1e-6)
        assert figure.low < figure.value < figure.high
    for label, each in enumerate(found.classes):
        assert each.auc is not None
        assert each.auc.value == pytest.approx(roc_auc_score(cases.labels == label, exact[:, label]), rel=1e-6)
        sensitivity = recall_score(cases.labels == label, called == label)
        specificity = recall_score(cases.labels != label, called != label)
        assert each.called == (pytest.approx(sensitivity), pytest.approx(specificity))
        assert sum(point.cases for point in each.reliability) == 90


def test_patients_are_what_is_resampled() -> None:
    """Four copies of each case tell no more than one of each."""
    single = judged.predictions(60)
    again = np.repeat(np.arange(60), 4)
    copied = replace(
        single, **{name: getattr(single, name)[again] for name in ("probabilities", "labels", "patients")}
    )  # fmt: skip
    apart = replace(copied, patients=np.arange(240).astype(str))
    of_one, of_copies, of_strangers = (evaluation(each).macro_auc for each in (single, copied, apart))
    assert of_one is not None
    assert of_copies is not None
    assert of_strangers is not None
    assert of_copies == of_one
    assert of_strangers.high - of_strangers.low < 0.7 * (of_one.high - of_one.low)


def test_a_class_without_cases_has_no_curve_and_a_note() -> None:
    cases = judged.predictions()
    rest = np.flatnonzero(cases.labels != 2)
    found = evaluation(
        replace(cases, **{name: getattr(cases, name)[rest] for name in ("probabilities", "labels", "patients")})
    )
    absent = found.classes[2]
    assert (absent.cases, absent.auc, absent.sensitivity, absent.roc) == (0, None, None, None)
    assert absent.specificity is not None
    assert any("no cases of bacterial" in note for note in notes_on(found))
    assert html_of(found).count('<svg class="roc"') == 2


class _Tags(HTMLParser):
    """Fails on a tag that is closed and not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_names_nobody(tmp_path: Path) -> None:
    page = write_report(evaluation(readers=Readers(calls=CALLS)), tmp_path)
    assert page == tmp_path / "evaluation.html"
    text = page.read_text()
    parser = _Tags()
    parser.feed(text)
    assert parser.open == []
    assert "<script" not in text
    assert re.findall(r'(?:src|href)="[^"]*"|url\(', text) == []
    for file in tmp_path.iterdir():
        assert "GEHEIM" not in file.read_text(), "no patient's id"
        assert "P001" not in file.read_text(), "and no case's name"
    assert "GEHEIM" not in repr(judged.predictions())


def test_the_page_shows_curves_readers_and_figures() -> None:
    found = evaluation(readers=Readers(calls=CALLS))
    text = html_of(found)
    assert text.count('<svg class="roc"') == text.count('<svg class="reliability"') == 3
    assert text.count('<path class="reader" transform') == 3 * 3 + 1, "three crosses a class, and one in the key"
    assert text.count('<path class="average" transform') == text.count('<path class="majority" transform') == 4
    assert text.count("<polygon") == 3
    assert str(found.classes[1].sensitivity) in text
    assert "Readers read 50 of the 60 cases" in text
    assert '<path class="reader"' not in html_of(evaluation())


def test_the_drawing_lies_where_the_numbers_say() -> None:
    found = evaluation(readers=Readers(rates={"A": {1: (0.75, 0.9)}}))
    text = html_of(found)
    assert 'transform="translate(94 85)"' in text, "300 units a side, from 64 across and 10 down"
    called = found.classes[1].called
    assert called is not None
    circle = re.search(r'ROC curve of covid-19.*?class="called" cx="([\d.]+)" cy="([\d.]+)"', text, re.DOTALL)
    assert circle is not None
    assert (float(circle[1]), float(circle[2])) == (
        pytest.approx(64 + 300 * (1 - called[1]), abs=0.1),
        pytest.approx(10 + 300 * (1 - called[0]), abs=0.1),
    )


def test_names_that_others_chose_are_shown_as_they_are() -> None:
    subject = replace(judged.SUBJECT, study='<b onclick="x">|')
    found = evaluated(subject, judged.predictions(), Readers(rates={"<i>": {0: (1, 1)}}), resamples=50, draws=10)
    assert "<b onclick" not in html_of(found)
    assert "<i>" not in html_of(found)
    assert '| Study | <b onclick="x">\\| |' in markdown_of(found)


def test_markdown_and_json_say_the_same() -> None:
    found = evaluation(readers=Readers(calls=CALLS))
    text, value = markdown_of(found), found.to_json()
    for name in ("accuracy", "macro_auc", "loss", "brier"):
        each = value[name]
        assert f"{each['value']:.3f} ({each['low']:.3f} to {each['high']:.3f})" in text
    for row in value["confusion"]:
        assert f"| {' | '.join(map(str, row))} |" in text
    assert json.loads(json.dumps(value))["format"] == "pleura/evaluation/v1"
    assert [len(each["readers"]) for each in value["classes"]] == [5, 5, 5]
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables), "as wide as their heads"
    assert len(tables) == 6


def test_notes_tell_of_few_cases_and_of_the_validation_split() -> None:
    few = evaluated(replace(judged.SUBJECT, split="validation"), judged.predictions(), resamples=50, draws=10)
    assert "which no round looks at" in notes_on(few)[0]
    assert "fewer than 30 cases of healthy, covid-19, bacterial" in notes_on(few)[1]
    assert notes_on(evaluation(judged.predictions(120))) == []
    left = evaluation(readers=Readers(rates={"A": {0: (1, 1)}}, left_out=4))
    assert notes_on(left)[-1].startswith("4 reads of cases")
