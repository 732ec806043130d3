"""The matrix of models and sites: which model on which cases, with which intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.bootstrap import bootstrap, macro_auc
from models.evaluation import metrics_of
from models.statistics import share_interval
from simulation.cross_site import cross_site

SITES = ("north", "south", "west")


def held_out(seed: int = 0) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Each site's model is good at home and poor elsewhere; the federated one is fair everywhere."""
    generator = np.random.default_rng(seed)
    labels = {site: np.arange(90) % 3 for site in SITES}

    def scored(skill: float, site: str) -> np.ndarray:
        raw = np.exp(generator.normal(size=(90, 3)) + skill * np.eye(3)[labels[site]])
        return raw / raw.sum(axis=1, keepdims=True)

    own = {model: {site: scored(2.5 if site == model else 0.3, site) for site in SITES} for model in SITES}
    return {**own, "federated": {site: scored(1.5, site) for site in SITES}}, labels


def test_each_cell_is_that_model_on_that_sites_cases() -> None:
    probabilities, labels = held_out()
    matrix = cross_site(probabilities, labels, resamples=200, seed=3)
    assert matrix.models == (*SITES, "federated")
    assert matrix.sites == SITES
    for model in matrix.models:
        for site in SITES:
            cell, given = matrix.cells[model][site], probabilities[model][site]
            exact = metrics_of(given, labels[site])
            assert cell.cases == 90
            assert cell.macro_auc == bootstrap(macro_auc, given, labels[site], seed=3, resamples=200)
            assert cell.macro_auc is not None
            assert cell.macro_auc.value == pytest.approx(exact.macro_auc, abs=1e-6)
            assert cell.accuracy == share_interval(given.argmax(axis=1) == labels[site])
            assert cell.accuracy is not None
            assert cell.accuracy.value == pytest.approx(exact.accuracy)


def test_at_home_and_elsewhere() -> None:
    probabilities, labels = held_out()
    matrix = cross_site(probabilities, labels, resamples=50)
    for site in SITES:
        home, away = matrix.at_home(site, "macro_auc"), matrix.elsewhere(site, "macro_auc")
        own = matrix.cells[site][site].macro_auc
        others = [matrix.cells[site][other].macro_auc for other in SITES if other != site]
        assert own is not None
        assert home == own.value
        assert away == pytest.approx(np.mean([each.value for each in others if each]))
        assert home > away + 0.2
    assert matrix.at_home("federated", "macro_auc") is None
    row = [each.value for each in matrix.row("federated", "accuracy") if each]
    assert matrix.elsewhere("federated", "accuracy") == pytest.approx(np.mean(row))


def test_patients_widen_the_intervals() -> None:
    probabilities, labels = held_out()
    copies = {model: {s: np.repeat(p, 4, axis=0) for s, p in row.items()} for model, row in probabilities.items()}
    many = {site: np.repeat(truth, 4) for site, truth in labels.items()}
    owners = {site: np.repeat(np.arange(90), 4) for site in SITES}
    by_patient = cross_site(copies, many, owners, resamples=300).cells["federated"]["north"]
    by_case = cross_site(copies, many, resamples=300).cells["federated"]["north"]
    for wide, narrow in ((by_patient.macro_auc, by_case.macro_auc), (by_patient.accuracy, by_case.accuracy)):
        assert wide is not None
        assert narrow is not None
        assert wide.value == narrow.value
        assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_a_site_with_one_class_has_an_accuracy_but_no_auc() -> None:
    probabilities, labels = held_out()
    labels["west"] = np.zeros(90, int)
    matrix = cross_site(probabilities, labels, resamples=50)
    assert matrix.row("federated", "macro_auc")[2] is None
    assert matrix.row("federated", "accuracy")[2] is not None
    assert matrix.at_home("west", "macro_auc") is None
    assert matrix.elsewhere("north", "macro_auc") is not None


def test_a_site_without_cases_has_no_figures() -> None:
    probabilities, labels = held_out()
    labels["west"] = np.empty(0, int)
    for row in probabilities.values():
        row["west"] = np.empty((0, 3))
    cell = cross_site(probabilities, labels, resamples=50).cells["north"]["west"]
    assert (cell.cases, cell.macro_auc, cell.accuracy) == (0, None, None)


def test_the_matrix_is_json() -> None:
    probabilities, labels = held_out()
    written = json.loads(json.dumps(cross_site(probabilities, labels, resamples=50).to_json()))
    assert list(written) == [*SITES, "federated"]
    assert set(written["north"]["sites"]["south"]["macro_auc"]) == {"value", "low", "high"}
    assert written["federated"]["at_home"] == {"macro_auc": None, "accuracy": None}


def test_what_does_not_belong_together_is_refused() -> None:
    probabilities, labels = held_out()
    with pytest.raises(ValueError, match="north was not evaluated on the cases of west"):
        cross_site({"north": {"north": probabilities["north"]["north"]}}, {"north": labels["north"], "west": [0]})
    with pytest.raises(ValueError, match="90 probabilities of the model north do not belong to the 5 labels of north"):
        cross_site(probabilities, {**labels, "north": labels["north"][:5]})
