"""What a run reports: summary.json with its documented fields, tables, and lines about rounds."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from simulation.evaluation import Comparison, Scores, score
from simulation.live import curve_of, ended, running
from simulation.plots import plot_learning_curves
from simulation.report import Run, Timing, print_report, read_timings, write_summary

CLASSES = ("healthy", "covid-19", "bacterial")


def scores(name: str, skill: float, seed: int) -> Scores:
    """A model's scores on two hospitals' cases: the larger `skill`, the likelier the true class."""
    rng = np.random.default_rng(seed)
    labels = {site: np.arange(24) % 3 for site in ("site-1", "site-2")}
    raw = {site: rng.random((24, 3)) + skill * np.eye(3)[labels[site]] for site in labels}
    return score(name, {site: values / values.sum(axis=1, keepdims=True) for site, values in raw.items()}, labels)


def row(number: int, **changes: Any) -> dict[str, Any]:
    base = {
        "round": number,
        "attempt": 1,
        "kind": "training",
        "state": "complete",
        "reason": None,
        "bytes_received": 2100,
    }
    base |= {
        "contributors": ["site-1", "site-2"],
        "started": 10.0,
        "ended": 14.0,
        "seconds": {"add": 0.25, "open": 0.5},
    }
    return base | {"metrics": {"macro_auc": 0.5 + number / 10}} | changes


def timing(number: int, attempt: int = 1, **changes: Any) -> Timing:
    base = {"study": "s", "round": number, "attempt": attempt, "train_seconds": 4.0, "seal_seconds": 0.5}
    return Timing.model_validate(base | {"upload_bytes": 1050, "fp32_bytes": 1000, "open_seconds": None} | changes)


@pytest.fixture
def run() -> Run:
    return Run(
        sites=["site-1", "site-2"],
        scheme="lwe-ckks",
        recipe="ucadi",
        version="1.2.3",
        seed=5,
        parameters=240,
        fp32_bytes=1000,
        cases={
            site: {"training": {"healthy": 7, "covid-19": 2}, "test": {"bacterial": 4}} for site in ("site-1", "site-2")
        },
        history=[
            row(1, attempt=1, state="failed", reason="only 1 of 2 contributed", seconds=None, metrics=None),
            row(1, attempt=2),
            row(2, seconds={"add": 0.75, "open": 0.5}),
            row(3, kind="evaluation"),
        ],
        timings={
            "site-1": [
                timing(1),
                timing(1, 2, open_seconds=0.25),
                timing(2, upload_bytes=1040),
                timing(3, upload_bytes=30),
            ],
            "site-2": [timing(1, 2, train_seconds=8.0), timing(2, train_seconds=8.0, seal_seconds=None)],
        },
        comparison=Comparison(
            CLASSES,
            {"site-1": scores("site-1", 0.2, 1), "site-2": scores("site-2", 0.1, 2)},
            scores("federated", 1.5, 3),
            scores("pooled", 2.5, 4),
        ),
        curves={"federated": [(0, 0.5), (1, 0.6)], "pooled": [(0, 0.5)]},
        wall_seconds={"rounds": 12.0},
    )


def test_the_summary_has_the_documented_fields(run: Run, tmp_path: Path) -> None:
    write_summary(run, tmp_path / "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["sites"], summary["rounds"], summary["scheme"]) == (2, 2, "lwe-ckks")
    assert (summary["parameters"], summary["fp32_bytes"]) == (240, 1000)
    assert summary["seconds"] == {"train": 6.0, "seal": 0.5, "add": 0.5, "open": 0.25, "reveal": 0.5}
    assert summary["upload_bytes"] == {"site-1": [1050, 1040], "site-2": [1050, 1050]}
    assert set(summary["auc"]) == {"alone", "federated", "pooled"}
    assert set(summary["auc"]["alone"]) == {"site-1", "site-2"}
    assert summary["auc"]["federated"] == pytest.approx(run.comparison.federated.macro_auc)
    assert summary["upload_ratio"] == 1.05
    assert summary["gain"] == pytest.approx(
        summary["auc"]["federated"] - np.mean(list(summary["auc"]["alone"].values()))
    )


def test_every_documented_field_is_there(run: Run) -> None:
    import simulation.report as report

    summary = run.summary()
    assert report.__doc__ is not None
    assert [name for name in summary if f"`{name}`" not in report.__doc__] == []


def test_an_unfinished_attempt_counts_for_no_upload(run: Run) -> None:
    only_failed = replace(run, history=run.history[:1])
    assert only_failed.upload_bytes == {"site-1": [], "site-2": []}
    assert only_failed.completed == []


def test_the_tables_show_each_model_and_what_it_cost(run: Run) -> None:
    out = io.StringIO()
    print_report(run, Console(file=out, width=120))
    text = out.getvalue()
    for words in ("site-1 alone", "average hospital alone", "federated", "pooled", *CLASSES, "1.0500 x"):
        assert words in text
    assert f"{run.comparison.federated.macro_auc:.3f}" in text
    assert f"{run.comparison.gain:+.3f}" in text
    assert "500.0 ms" in text  # the mean of 0.25 and 0.75 s of adding


def test_timings_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "timings.jsonl"
    assert read_timings(path) == []
    path.write_text(timing(1).model_dump_json() + "\n" + timing(2, open_seconds=1.5).model_dump_json() + "\n")
    assert [(t.round, t.open_seconds) for t in read_timings(path)] == [(1, None), (2, 1.5)]


def test_a_rounds_counts_describe_the_model_before_it(run: Run) -> None:
    assert curve_of(run.history) == [(0, 0.6), (1, 0.7), (2, 0.8)]


def test_an_attempts_end_in_words() -> None:
    assert ended(row(2)) == "round 2: site-1, site-2 in 4 s, 0.0 MB, model before it: pooled validation AUC 0.700"
    assert "only 1 of 2" in ended(row(2, state="failed", reason="only 1 of 2"))
    assert ended(row(3, kind="evaluation", metrics=None)).startswith("last evaluation: site-1")


def test_what_is_under_way_in_words() -> None:
    assert running([]) == "agreeing on keys"
    under_way = row(2, state="collecting", contributors=["site-2"], bytes_received=5_800_000)
    assert running([row(1), under_way]) == "hospitals train and seal, in: site-2, 5.8 MB received"


def test_held_out_cases_of_one_class_have_no_auc() -> None:
    one_class = score("a", {"site-1": np.full((3, 2), 0.5)}, {"site-1": np.zeros(3, np.int64)})
    with pytest.raises(ValueError, match="hold out more"):
        _ = one_class.macro_auc


def test_the_learning_curves_are_a_picture(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    plot_learning_curves(path, run.curves, run.comparison, "a title")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000
