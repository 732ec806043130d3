"""From results to a report: its tables, curves and files. Made-up values stand for trainings."""

from __future__ import annotations

import csv
import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).parent))

import experiment_values as values

from models.roc import GRID, roc_band
from simulation.experiments.describe import Column, Figure, Group, PaperTable, plaintext_twins
from simulation.experiments.measures import accuracy, auc, best_validation
from simulation.experiments.report import papers
from simulation.experiments.report.build import report_of
from simulation.experiments.report.crossing import section as crossing
from simulation.experiments.report.curves import matching, mean_curve
from simulation.experiments.report.differences import section as differences
from simulation.experiments.report.document import Cell, Estimate, Published, Report, Section, Table, Unit
from simulation.experiments.report.drawing import COLOURS
from simulation.experiments.report.estimates import NOTHING, at_sites, estimate
from simulation.experiments.report.html import html_of
from simulation.experiments.report.plain import csv_of, markdown_of
from simulation.experiments.report.secrecy import section as secrecy
from simulation.experiments.report.sweeps import section as sweeps
from simulation.experiments.report.write import write_report
from simulation.experiments.results import Point, Predictions, UnitResult

FACTS = [("command", "pleura-simulate experiment made-up"), ("seeds", "1, 2, 3")]


@pytest.fixture(scope="module")
def report() -> Report:
    return report_of(values.experiment(), values.units(), FACTS, {"films": values.SHEET})


def test_a_papers_table_has_its_figures_beside_ours(report: Report) -> None:
    table = next(table for table in report.tables if table.key == "accuracy")
    assert table.head == ["", "training cases (%)", "paper", "test cases (%)", "paper", "AUC, covid-19"]
    name, ours, printed, *_ = table.rows[0]
    expected = [accuracy("training")(unit) for unit in values.units()["federated"]]
    assert (name, printed) == ("federated", Published("96.15 ± 0.003"))
    assert isinstance(ours, Estimate)
    assert (ours.mean, ours.count) == (pytest.approx(np.mean([v for v in expected if v is not None])), 3)
    sensitivity = next(table for table in report.tables if table.key == "recall")
    assert sensitivity.rows[1] == ["normal", NOTHING, Published(NOTHING)]


def test_an_interval_is_students_and_ends_where_shares_do() -> None:
    found = estimate([0.90, 0.92, 0.97], "percent")
    assert isinstance(found, Estimate)
    half = 4.302653 * np.std([0.90, 0.92, 0.97], ddof=1) / np.sqrt(3)  # t of 2 degrees of freedom, from a table
    assert (found.low, found.high) == (pytest.approx(0.93 - half, abs=1e-6), 1.0)
    assert found.text == "93.0"
    assert found.interval == "84.0 to 100.0"
    positive: tuple[Unit, ...] = ("plain", "seconds", "megabytes")
    signed: tuple[Unit, ...] = ("gain", "points", "difference")
    for unit in positive:
        cut = estimate([0.1, 0.9], unit)
        assert isinstance(cut, Estimate)
        assert cut.low == 0
        assert cut.high is not None
        assert cut.high > 1
    for unit in signed:
        free = estimate([-0.1, 0.9], unit)
        assert isinstance(free, Estimate)
        assert free.low is not None
        assert free.low < 0
    assert Estimate(-0.123, unit="gain").text == "-12.3"
    assert estimate([0.5], "percent") == Estimate(0.5, unit="percent")
    assert estimate([]) == NOTHING


def test_a_comparison_takes_the_same_seeds_of_both_arms() -> None:
    units = values.units()
    units["centralised"] = units["centralised"][1:]  # the first seed is not done yet
    cells = [("gap", [Figure("federated", accuracy(), "-0.89", "centralised")])]
    (row,) = papers.paper_table(PaperTable("gap", "Gap", "text", [Column("gap", "points")], cells), units).rows
    pairs = zip(units["federated"][1:], units["centralised"], strict=True)
    gaps = [(accuracy()(one) or 0) - (accuracy()(other) or 0) for one, other in pairs]
    assert isinstance(row[1], Estimate)
    assert (row[1].mean, row[1].count) == (pytest.approx(np.mean(gaps)), 2)


def test_folds_of_one_seed_are_all_counted() -> None:
    folds = [replace(unit, seed=1) for unit in values.units()["federated"]]
    table = PaperTable("f", "Folds", "text", [Column("f", "percent")], [("f", [Figure("federated", accuracy())])])
    ((_, cell),) = papers.paper_table(table, {"federated": folds}).rows
    assert isinstance(cell, Estimate)
    assert (cell.mean, cell.count) == (pytest.approx(np.mean([accuracy()(unit) or 0 for unit in folds])), len(folds))


def test_a_figure_that_some_seeds_lack_says_how_many_have_it() -> None:
    def interval(values: list[float]) -> str:
        found = estimate(values, "percent", 3)
        assert isinstance(found, Estimate)
        return found.interval

    assert interval([1.0]) == "of 1 in 3"
    assert interval([0.25, 0.75]) == "0.0 to 100.0; of 2 in 3"
    assert interval([0.5, 0.5, 0.5]) == ""


def test_the_untrained_model_is_nobodys_best_round() -> None:
    curve = (Point(round=0, accuracy=0.9, loss=0.1), Point(round=1, accuracy=0.6, loss=0.7))
    unit = replace(values.unit("federated", 1), curve=curve)
    assert (best_validation("accuracy")(unit), best_validation("loss")(unit)) == (0.6, 0.7)


def test_the_mean_curve_ends_where_the_first_one_does() -> None:
    assert mean_curve([[(0, 1.0), (1, 3.0), (2, 5.0)], [(0, 2.0), (1, 5.0)]]) == [(0, 1.5), (1, 4.0)]
    assert mean_curve([]) == []


def test_rounds_to_match_are_counted_seed_by_seed() -> None:
    def unit(arm: str, seed: int, areas: list[float]) -> UnitResult:
        points = tuple(Point(round=number, auc=area) for number, area in enumerate(areas))
        return replace(values.unit("federated", seed), arm=arm, curve=points)

    units = {
        "federated": [unit("federated", 1, [0.5, 0.7, 0.895, 0.91]), unit("federated", 2, [0.5, 0.6, 0.7, 0.75])],
        "centralised": [unit("centralised", seed, [0.5, 0.8, 0.85, 0.9]) for seed in (1, 2)],
    }
    (table,) = matching(values.experiment(), units)
    assert table.rows == [["federated", "centralised", "1 of 2", "2, not"]]
    units["centralised"] = units["centralised"][1:]  # the first seed has no control yet
    (table,) = matching(values.experiment(), units)
    assert table.rows == [["federated", "centralised", "0 of 1", "not"]]


def test_the_band_of_a_roc_curve_holds_the_curve_and_narrows_with_cases() -> None:
    few, many = (values.predictions(0.3, 1, cases) for cases in (60, 600))
    widths = []
    for test in (few, many):
        low, high = roc_band([test], 0)
        assert low.shape == GRID.shape
        assert (low <= high).all()
        widths.append(float(np.mean(high - low)))
    assert widths[1] < 0.5 * widths[0]


def test_sure_and_right_is_a_perfect_curve_though_single_precision_calls_all_of_them_1() -> None:
    logits = np.array([20.0, 30, 40, 50] * 6)
    probabilities = np.stack([expit(-logits), expit(logits)], axis=1).astype(np.float32)
    test = values.predictions(1.0, 1, 24)
    test = replace(test, probabilities=probabilities, labels=(logits > 35).astype(np.int64))
    for number in range(2):
        assert (roc_band([test], number)[0] == 1).all()


def test_differences_are_tested_over_seeds_and_on_cases(report: Report) -> None:
    tables = {
        part.key: part for part in differences(values.experiment(), values.units()).parts if not isinstance(part, str)
    }
    assert {row[2] for row in tables["seeds-main"].rows} == {"centralised", "alone"}
    assert all("patients" in str(row[-1]) for row in tables["cases-main"].rows)  # two cases a patient
    alone = next(row for row in tables["seeds-main"].rows if (row[0], row[2]) == ("accuracy", "alone"))
    assert isinstance(alone[3], Estimate)
    assert alone[3].mean > 0.05
    assert isinstance(alone[4], Estimate)
    assert alone[4].mean < 0.05


def test_arms_are_compared_on_the_same_cases_in_whatever_order_hospitals_have_them() -> None:
    units = values.units(1)
    alike = {part.title: part for part in tables_of(differences(values.experiment(), units))}
    (central,) = units["centralised"]
    given = central.model.test
    order = np.arange(len(given)).reshape(-1, 2)[::-1].ravel()  # patients turned round, two cases each
    test = Predictions(*(array[order] for array in vars(given).values()))
    units["centralised"] = [replace(central, models={"centralised": replace(central.model, test=test)})]
    found = {part.title: part for part in tables_of(differences(values.experiment(), units))}
    assert found == alike
    assert "centralised" in {row[2] for row in next(iter(found.values())).rows}


def tables_of(section: Section) -> list[Table]:
    return [part for part in section.parts if isinstance(part, Table)]


def test_a_sweep_is_of_the_seeds_that_all_of_its_arms_have() -> None:
    units = values.units()
    units["federated-3-epochs"] = units["federated-3-epochs"][:1]
    (table,) = tables_of(sweeps(values.experiment(), units))
    assert table.rows[0][2] == estimate([auc()(units["federated"][0]) or 0], "area")
    assert table.note.endswith(": 1.")
    (table,) = tables_of(sweeps(values.experiment(), values.units()))
    assert table.note.endswith(": 1, 2, 3.")
    units["federated-3-epochs"] = values.units()["federated-3-epochs"][1:]
    units["federated"] = units["federated"][:1]
    assert not tables_of(sweeps(values.experiment(), units))


def test_a_group_of_some_hospitals_is_compared_on_their_cases() -> None:
    group = Group("one", "One", ["federated"], sites=["site-2"])
    (unit,) = at_sites({"federated": [values.unit("federated", 1)], "alone": []}, group)["federated"]
    assert set(unit.model.test.sites) == {"site-2"}


def told(*, members: tuple[str, ...] = (), seeds: int = 3) -> list[Cell]:
    """The row on what encryption costs, of made-up twins that are as good as what they repeat."""
    experiment, units = values.experiment(), values.units()
    twins = plaintext_twins(replace(experiment.arms[0], members=members))
    units |= {twin.name: [replace(unit, arm=twin.name) for unit in units["federated"][:seeds]] for twin in twins}
    (_, table) = secrecy(replace(experiment, arms=[*experiment.arms, *twins]), units).parts
    assert isinstance(table, Table)
    (row,) = table.rows
    return list(row)


def test_the_cost_of_encryption_is_told_seed_by_seed() -> None:
    row = told(seeds=2)
    areas = [auc()(unit) or 0 for unit in values.units()["federated"]]
    assert row[:4] == ["federated", *[estimate(areas[:2], "area")] * 3], "of the seeds that both were trained at"
    assert row[4:6] == [Estimate(0.0, 0.0, 0.0, 2, "difference")] * 2
    assert row[6] == Estimate(max(areas[:2]) - min(areas[:2]), unit="area")
    assert told(seeds=1)[6] == NOTHING, "one seed has no spread"


def test_hospitals_models_are_crossed_at_the_seeds_that_have_the_federated_one() -> None:
    experiment, units = values.experiment(), values.units()
    units["federated"] = units["federated"][:1]
    (_, _, table) = crossing(experiment, units).parts
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == [*values.SITES, "federated"]
    units["federated"] = []
    assert len(units["alone"]) > 1, "it has seeds of its own"
    assert crossing(experiment, units).parts[1:]


def test_who_did_not_train_is_not_counted_where_ways_are_compared() -> None:
    here = [auc(sites=("site-1",))(unit) or 0 for unit in values.units()["federated"]]
    assert told(members=("site-1",))[1] == estimate(here, "area")


def test_markdown_names_every_picture_and_table(report: Report) -> None:
    text = markdown_of(report, "pictures")
    assert set(re.findall(r"\(pictures/(.+?)\.png\)", text)) == {picture.key for picture in report.pictures}
    for table in report.tables:
        assert f"### {table.title}" in text
    assert "*96.15 ± 0.003*" in text


def test_a_csv_table_has_means_and_ends_of_intervals() -> None:
    rows = [["a", Estimate(0.9, 0.85, 0.95, 3, "percent"), Published("91.26")], ["b", NOTHING, Published(NOTHING)]]
    text = csv_of(Table("t", "T", ["", "accuracy (%)", "paper"], rows))
    assert list(csv.reader(io.StringIO(text))) == [
        ["", "accuracy (%)", "accuracy (%) low", "accuracy (%) high", "paper"],
        ["a", "90", "85", "95", "91.26"],
        ["b", NOTHING, "", "", NOTHING],
    ]


def test_the_page_needs_nothing_else_and_changes_with_its_colours(report: Report) -> None:
    page = html_of(report)
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "url(http" not in page
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert drawings.count("<svg") == len(report.pictures)
    for name, (light, _) in COLOURS.items():
        assert light not in drawings, name
    for key, drawing in zip(
        (p.key for p in report.pictures), re.findall(r"<svg.*?</svg>", page, re.DOTALL), strict=True
    ):
        named = re.findall(r'(?:\bid="|href="#|url\(#)(.+?)["\)]', drawing)
        assert named
        assert all(name.startswith(f"{key}-") for name in named), "ids of two drawings must not meet"


def test_what_a_case_is_called_cannot_break_the_page(report: Report) -> None:
    odd = replace(report, title="<script>alert(1)</script>")
    assert "<script>" not in html_of(odd)


def test_a_folder_that_can_be_shared(report: Report, tmp_path: Path) -> None:
    page = write_report(report, tmp_path)
    assert page.name == "report.html"
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == {picture.key for picture in report.pictures}
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == {table.key for table in report.tables}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "pictures").iterdir())
    text, tables = ((tmp_path / name).read_text() for name in ("report.md", "tables.md"))
    assert all(f"pictures/{picture.key}.png" in text for picture in report.pictures)
    assert "![" not in tables
    assert [line for line in text.splitlines() if line[:1] == "|"] == [
        line for line in tables.splitlines() if line[:1] == "|"
    ]


def test_two_tables_of_one_name_are_refused(report: Report, tmp_path: Path) -> None:
    twice = replace(report, sections=[*report.sections, report.sections[0]])
    with pytest.raises(ValueError, match="accuracy"):
        write_report(twice, tmp_path)


def test_a_report_of_nothing_is_a_report_of_no_sections() -> None:
    found = report_of(values.experiment(), {}, FACTS, {})
    assert [section.title for section in found.sections] == ["The paper's tables"]
    assert html_of(found).count("<svg") == 0
