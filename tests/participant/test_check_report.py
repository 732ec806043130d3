"""The report of a check as a value, as a page and as text."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import checked_data as data
import pytest
from checked_data import FILMS
from rich.console import Console

from participant.data.checks import Report, check
from participant.data.checks.html import render_fragment, render_page, stylesheet
from participant.data.checks.terminal import show

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    root = data.write_films(tmp_path_factory.mktemp("films"), 15)
    for each in range(10):
        data.write_lettered(root / "normal" / f"<b>{each}&.png", 60 + each, "JANE MILLER")
    data.write_dicom_film(root / "normal" / "one.dcm", 99, PatientID="SECRET-ID", PatientName="MILLER^JANE")
    (root / "normal" / "torn.png").write_bytes(b"torn")
    return check(root, FILMS, made=NOON)


def test_it_survives_being_kept(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report
    assert Report.from_json(report.to_json()).to_json() == report.to_json()
    small = Report.from_json(report.to_json(pictures=False).replace('"histograms"', '"thumbnails": {}, "histograms"'))
    assert small.findings == report.findings
    assert len(report.to_json(pictures=False)) < len(report.to_json()) / 2
    with pytest.raises(ValueError, match="data-report/v1"):
        Report.from_json(report.to_json().replace("data-report/v1", "data-report/v9"))


def test_the_same_data_give_the_same_report(report: Report) -> None:
    assert check(Path(report.data), FILMS, made=NOON) == report
    other = check(Path(report.data), FILMS, seed=1, made=NOON)
    assert [row.split for row in other.cases] != [row.split for row in report.cases]


def test_progress_is_told_and_may_end_the_check(report: Report) -> None:
    steps: list[tuple[int, int]] = []
    check(Path(report.data), FILMS, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 42) for done in range(1, 43)]

    def enough(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(Path(report.data), FILMS, progress=enough)


def test_pictures_are_of_what_is_told_first_and_of_each_class(report: Report) -> None:
    (lettered,) = (finding for finding in report.findings if finding.kind == "burnt-in-text")
    assert len(lettered.cases) == 10
    shown = [note.case in report.thumbnails for note in lettered.cases[:8]]
    assert all(shown)
    assert sum(name.startswith("pneumonia/") for name in report.thumbnails) == 12
    assert set(report.thumbnails) <= {row.name for row in report.cases}


def test_histograms_are_shares(report: Report) -> None:
    assert len(report.edges) == 65
    for each in report.histograms:
        assert sum(each.mean) == pytest.approx(1)
        assert all(low <= high for low, high in zip(each.low, each.high, strict=True))
    assert {each.label: each.cases for each in report.histograms} == {"normal": 26, "pneumonia": 15}


def test_neither_page_nor_values_name_a_patient(report: Report) -> None:
    for told in (report.to_json(), render_page(report)):
        assert "SECRET-ID" not in told
        assert "MILLER" not in told


class Seen(HTMLParser):
    """Elements, and everything that a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.loaded: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_the_page_needs_nothing_else_and_says_where_it_belongs(report: Report) -> None:
    page = render_page(report)
    seen = Seen()
    seen.feed(page)
    assert not {"script", "link", "iframe", "b>0&.png"} & set(seen.elements)
    assert all(place.startswith("data:image/jpeg;base64,") for place in seen.loaded)
    assert "url(" not in page
    assert "stays on this machine" in page
    assert "2026-03-01 12:00 UTC" in page
    assert "&lt;b&gt;0&amp;.png" in page


def test_the_fragment_fits_into_a_page_with_a_strict_policy(report: Report) -> None:
    seen = Seen()
    seen.feed(render_fragment(report))
    assert seen.elements[0] == "div"
    assert not {"style", "onclick"} & seen.attributes
    assert not {"html", "head", "body", "style", "h1"} & set(seen.elements)
    rules = re.findall(r"^\s*([^@{}\n/]+)\{", stylesheet(), re.MULTILINE)
    assert rules
    assert all(part.strip().startswith(".data-report") for rule in rules for part in rule.split(","))


def test_the_terminal_tells_each_finding_with_what_to_do(report: Report) -> None:
    console = Console(file=io.StringIO(), width=200)
    show(report, console)
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    for finding in report.findings:
        assert finding.what in told
        assert finding.fix in " ".join(told.split())
    assert "normal/<b>0&.png: 1 row of bright letters" in told
    assert "and 5 more, in the report" in told
    assert "Training cannot begin: 1 to put right" in told


def test_nothing_to_show_is_shown(tmp_path: Path) -> None:
    page = render_page(check(tmp_path / "nowhere", FILMS))
    assert "Training cannot begin" in page
    assert "the folder does not exist" in page
