"""Radiologists' reads: both forms of the table, every problem at once, and where readers then lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import judged
import numpy as np
import pytest

from models.statistics import Interval, share_interval, wilson
from participant.evaluation.predictions import Predictions
from participant.evaluation.readers import Readers, ReadersError, read_readers
from participant.evaluation.reading import reader_points

Read = Callable[..., Readers]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(*lines: str, of: Predictions | None = None) -> Readers:
        (tmp_path / "readers.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return read_readers(tmp_path / "readers.csv", of or judged.predictions(6), judged.ROOT)

    return read


def test_reads_of_cases_by_path_by_name_and_without_ending(read: Read) -> None:
    found = read(
        "reader,case,class",
        "A,healthy/P000-0,healthy",
        "A,P001-0,bacterial",
        " B , P001-0 ,covid-19",
        "B,P900-0,healthy",
    )
    assert found.calls == {"A": {0: 0, 1: 2}, "B": {1: 1}}
    assert found.left_out == 1, "that case is in another split"


def test_rates_of_readers(read: Read) -> None:
    found = read("reader,class,sensitivity,specificity", "A,covid-19,0.9,0.8", "A,healthy,1,0", "B,covid-19,0.7,0.95")
    assert found.rates == {"A": {1: (0.9, 0.8), 0: (1.0, 0.0)}, "B": {1: (0.7, 0.95)}}


def test_of_two_classes_the_last_is_meant_and_the_other_is_its_mirror(read: Read) -> None:
    two = judged.predictions(6, ("normal", "pneumonia"))
    found = read("reader,sensitivity,specificity", "A,0.9,0.8", of=two)
    assert found.rates == {"A": {1: (0.9, 0.8), 0: (0.8, 0.9)}}
    both = read(
        "reader,class,sensitivity,specificity", "A,pneumonia,0.9,0.8", "A,normal,0.8,0.9", of=two
    )  # said twice, and the same
    assert both.rates == found.rates


def test_all_problems_of_reads_at_once_with_their_lines(read: Read) -> None:
    with pytest.raises(ReadersError) as raised:
        read(
            "reader,case,class",
            "A,P000-0,healthy",
            "A,P000-0,covid-19",
            ",P001-0,healthy",
            "",
            "A,P777-0,influenza",
            "B,twice,healthy",
            "B,P002-0,healthy,more",
        )
    assert [problem.split(":")[0] for problem in raised.value.problems] == [
        "line 3",
        "line 4",
        "line 6",
        "line 6",
        "line 7",
        "line 8",
    ]
    text = str(raised.value)
    for words in (
        "A has read 'P000-0' on an earlier line",
        "the reader is missing",
        "class 'influenza' is none of the model's: healthy, covid-19, bacterial",
        "there is no case 'P777-0'",
        "2 cases are called 'twice'",
        "more fields than there are columns",
    ):
        assert words in text


def test_all_problems_of_rates_at_once_with_their_lines(read: Read) -> None:
    with pytest.raises(ReadersError) as raised:
        read(
            "reader,class,sensitivity,specificity",
            "A,covid-19,0.9,0.8",
            "A,covid-19,0.8,0.8",
            "B,covid-19,91,x",
            "C,healthy,nan",
        )
    assert [problem.split(":")[0] for problem in raised.value.problems] == [f"line {n}" for n in (3, 4, 4, 5, 5)]
    assert "sensitivity is a share from 0 to 1, such as 0.85, not '91'" in str(raised.value)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["reader;case;class", "A;P000-0;healthy"], "line 1: the columns are"),
        (["reader,case,class"], "line 2: there are no reads"),
        (["reader,sensitivity,specificity", "A,0.9,0.8"], "with 3 classes there has to be a column class"),
    ],
)
def test_a_table_of_another_form(read: Read, lines: list[str], words: str) -> None:
    with pytest.raises(ReadersError, match=words):
        read(*lines)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "readers.xlsx").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(ReadersError, match="save it as CSV in UTF-8"):
        read_readers(tmp_path / "readers.xlsx", judged.predictions(6), judged.ROOT)
    with pytest.raises(ReadersError, match="No such file"):
        read_readers(tmp_path / "nothing.csv", judged.predictions(6), judged.ROOT)


def test_single_readers_their_average_and_what_most_of_them_said() -> None:
    cases = judged.predictions(6)  # healthy, covid-19, bacterial, healthy, covid-19, bacterial
    calls = {
        "A": {0: 0, 1: 1, 2: 1, 3: 0, 4: 1, 5: 2},
        "B": {0: 1, 1: 1, 2: 2, 3: 0, 4: 0, 5: 2},
        "C": {0: 0, 1: 0, 2: 1, 3: 0, 4: 1},
    }
    found = reader_points(Readers(calls=calls), cases, 1)
    assert found is not None
    assert [(each.name, each.rates, each.cases) for each in found.single] == [
        ("A", (1.0, 0.75), 6),
        ("B", (0.5, 0.75), 6),
        ("C", (0.5, pytest.approx(2 / 3)), 5),
    ]
    assert found.average is not None
    assert found.average.rates == pytest.approx((2 / 3, (0.75 + 0.75 + 2 / 3) / 3))
    # Case 5 was read by two alone. Of the others, 1, 2 and 4 were called covid-19 by two of three.
    assert found.majority is not None
    assert found.majority.cases == 5
    assert found.majority.rates == (1.0, pytest.approx(2 / 3))


def test_readers_intervals_count_patients() -> None:
    cases = judged.predictions(6, each=4)
    calls = {"A": {place: 1 if place % 8 else 0 for place in range(24)}}
    found = reader_points(Readers(calls=calls), cases, 1)
    assert found is not None
    (point,) = found.single
    assert isinstance(point.sensitivity, Interval)
    right = np.array([place % 8 != 0 for place in range(24)])[cases.labels == 1]
    assert point.sensitivity == share_interval(right, cases.patients[cases.labels == 1])
    assert point.sensitivity != wilson(int(right.sum()), 8)
    assert (found.average, found.majority) == (None, None), "one reader has neither"


def test_rates_from_a_table_have_no_intervals_and_no_majority() -> None:
    rates = {"A": {1: (0.9, 0.8)}, "B": {1: (0.7, 0.6)}}
    found = reader_points(Readers(rates=rates), judged.predictions(6), 1)
    assert found is not None
    assert [each.rates for each in found.single] == [(0.9, 0.8), (0.7, 0.6)]
    assert found.average is not None
    assert found.average.rates == pytest.approx((0.8, 0.7))
    assert found.majority is None
    assert reader_points(Readers(rates=rates), judged.predictions(6), 0) is None
