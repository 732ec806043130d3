"""A study's own page: its figures by class, over rounds that were measured with intervals and before there were any."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.metrics import in_words, measures, roc_curves
from coordinator.store.tables import Metrics, Round, Study
from coordinator.web.roc import roc_plot

CLASSES = ["normal", "covid <19>"]
OLD = {
    "cases": 40,
    "loss": 0.7,
    "accuracy": 0.6,
    "sensitivity": [0.6, 0.6],
    "specificity": [0.6, 0.6],
    "auc": [0.61, None],
}
OLD |= {"macro_auc": 0.61}


def counts(skill: int) -> dict[str, np.ndarray]:
    """Of 40 cases in 8 bins; with more skill, more of them lie apart."""
    own = np.array([1, 1, 1, 1, 2, 2, 2, 10]) + skill * np.array([0, 0, 0, -1, -1, -1, -1, 4])
    scores = np.array([[own, own[::-1]], [own, own[::-1]]])
    confusion = np.array([[14 + skill, 6 - skill], [5, 15]])
    return {"cases": np.array(40), "loss": np.array(20_000), "confusion": confusion, "scores": scores}


def complete(world, named: dict[str, np.ndarray], derived: dict | None = None) -> None:
    """As if the attempt that collects had been opened to these counts; the next one begins."""

    def write(session) -> None:
        row = session.scalars(select(Round).where(Round.state == "collecting")).one()
        now = world.clock.now()
        row.state, row.model, row.ballot, row.ballot_digest = "complete", row.base_model, {"manifests": []}, "ab" * 32
        row.closed = row.opened = row.ended = now
        kept = {"recipe": {name: values.tolist() for name, values in named.items()}}
        session.add(Metrics(round_id=row.id, counts=kept, derived=measures(named) if derived is None else derived))
        study = session.get_one(Study, row.study_id)
        study.recipe = {**study.recipe, "network": {"classes": CLASSES}}

    world.services.store.run("complete", write)
    world.conduct()


@pytest.fixture
def look(world):
    """`look(path)` is what an auditor who is logged in sees there."""
    cookie = world.call("POST", "/login", data={"token": world.auditor}).headers["set-cookie"].split(";")[0]
    return lambda path: world.call("GET", path, headers={"Cookie": cookie})


def address(world) -> str:
    return f"/studies/{world.study_id}"


def test_nothing_for_who_is_not_logged_in(world) -> None:
    world.begin(name="lungs-7")
    answer = world.call("GET", address(world))
    assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next={address(world)}")
    assert "lungs-7" not in answer.text


def test_a_study_that_is_not_there(world, look) -> None:
    assert look("/studies/00000000-0000-0000-0000-000000000000").status_code == 404
    assert look("/studies/none").status_code == 422


def test_before_the_first_round(world, look) -> None:
    world.begin()
    page = look(address(world)).text
    assert "No round is complete yet" in page
    assert "Round 1: 0 of 3 contributions are in; missing: hospital-a, hospital-b, hospital-c." in page


def test_classes_have_figures_with_intervals_and_the_last_rounds_curve(world, look) -> None:
    world.begin(rounds=5)
    complete(world, counts(0))
    complete(world, counts(1))
    page = look(address(world)).text
    found = measures(counts(1))
    for name, value in (("auc", found["auc"][0]), ("sensitivity", 0.75), ("specificity", 0.75)):
        low, high = found["intervals"][name][0]
        assert f">{value:.3f} ({low:.3f} to {high:.3f})<" in page
    assert re.search(r"<h3>covid &lt;19&gt;</h3>\s*<p class=\"hint\">20 of 40 cases</p>", page)
    drawn = re.findall(r'<svg class="roc".*?</svg>', page, re.DOTALL)
    assert [re.search(r"<title>(.*?)<", each)[1] for each in drawn] == [
        f"ROC curve of {name}, AUC {value:.3f} ({low:.3f} to {high:.3f})"
        for name, value, (low, high) in zip(
            ("normal", "covid &lt;19&gt;"), found["auc"], found["intervals"]["auc"], strict=True
        )
    ]
    curve = roc_curves(counts(1)["scores"])[0]
    assert drawn[0] == str(roc_plot(curve, re.search(r"<title>(.*?)<", drawn[0])[1], (0.25, 0.75)))


def test_the_confusion_matrix_has_counts_and_their_shares(world, look) -> None:
    world.begin(rounds=5)
    complete(world, counts(1))
    page = look(address(world)).text
    cells = re.findall(r'<td class="tenths-(\d+)( right)?">(\d+)<span class="share">(\d+) %', page)
    assert cells == [
        ("8", " right", "15", "75"),
        ("2", "", "5", "25"),
        ("2", "", "5", "25"),
        ("8", " right", "15", "75"),
    ]


def test_the_overview_shows_the_last_figure_and_leads_there(world, look) -> None:
    world.begin(rounds=5)
    complete(world, counts(0))
    complete(world, counts(1))
    page, found = look("/").text, measures(counts(1))
    low, high = found["intervals"]["macro_auc"]
    assert f'<span class="big">{found["macro_auc"]:.3f}</span>' in page
    assert f"95 % interval {low:.3f} to {high:.3f}" in page
    assert f'href="{address(world)}"' in page
    assert '<svg class="spark"' in page
    assert '<svg class="roc"' not in page


def test_rounds_from_before_there_were_intervals(world, look) -> None:
    world.begin(rounds=5)
    complete(world, counts(0), OLD)
    page = look(address(world)).text
    for value in ("0.610", "0.600"):
        assert f"<td>{value}</td>" in page
    assert page.count('<svg class="roc"') == 2, "their counts are kept"
    assert "0.610" in look("/").text
    complete(world, counts(1))
    assert '<td class="number">0.610</td>' in look(address(world)).text
    first, second = world.operate("GET", f"{world.study}/rounds").json()[:2]
    assert (first["metrics"]["macro_auc"], first["metrics"]["intervals"]) == (0.61, None)
    assert second["metrics"] == measures(counts(1))


def test_a_study_that_counts_no_scores(world, look) -> None:
    world.begin(rounds=5)
    unscored = {name: values for name, values in counts(1).items() if name != "scores"}
    complete(world, unscored)
    page = look(address(world)).text
    assert "0.750 (0.531 to 0.888)" in page
    assert '<svg class="roc"' not in page


def test_the_command_line_shows_them_too(world, tmp_path) -> None:
    world.begin(rounds=5)
    complete(world, counts(0), OLD)
    complete(world, counts(1))
    words = ["study", "show", "study", "--data-dir", str(tmp_path / "data")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    rows = [re.split(r"  +", line.strip()) for line in result.stdout.splitlines()]
    found = measures(counts(1))
    assert [row[-2:] for row in rows if row[0] in ("1", "2")] == [
        ["0.610", "0.700"],
        [in_words(found, "macro_auc"), "0.500"],
    ]
    assert [row for row in rows if row[0] in CLASSES] == [
        [name, *(in_words(found, key, place) for key in ("auc", "sensitivity", "specificity"))]
        for place, name in enumerate(CLASSES)
    ]
