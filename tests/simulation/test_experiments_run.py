"""A whole experiment that was run: what each arm left, what it went on from, and what lies in the report's folder."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_experiment import CLASSES, HEAD, Silent, tiny

from models.flatten import read_model
from models.recipe_problems import RecipeError
from simulation.experiments.results import Point
from simulation.experiments.runner import Cohorts, Settings, results_of, steps_missing, task_of
from simulation.experiments.training import first_of, train_unit

# For the fixture's six trainings in two processes, on a machine that may have other work.
pytestmark = pytest.mark.timeout(900)


def test_every_arm_leaves_its_result(finished: Settings) -> None:
    results = results_of(tiny(), finished)
    assert {arm: list(units[0].models) for arm, units in results.items()} == {
        "federated": ["federated"],
        "federated-plaintext": ["federated-plaintext"],
        "federated-plaintext-last-bit": ["federated-plaintext-last-bit"],
        "centralised": ["centralised"],
        "alone": ["site-1", "site-2"],
        "joined": ["joined"],
        "frozen": ["frozen"],
    }
    for arm, (unit,) in results.items():
        assert [point.round for point in unit.curve] == [0, 1, 2], arm
        for model in unit.models.values():
            assert set(model.test.sites) == {"site-1", "site-2", "site-3"}
            assert [found.label for found in model.heat_maps] == list(CLASSES)
            assert model.heat_maps[0].image.shape == (32, 32)
    federated = results["federated"][0]
    assert federated.model.training is not None
    assert {site: len(sent) for site, sent in federated.upload_bytes.items()} == dict.fromkeys(federated.cases, 3)
    assert federated.seconds["as sites"] < federated.seconds["wall"]
    frozen = results["frozen"][0]
    assert frozen.parameters < federated.parameters
    assert steps_missing(tiny(), finished) == 0


def test_arms_are_tried_on_the_same_cases(finished: Settings) -> None:
    results = results_of(tiny(), finished)
    first = results["federated"][0].model
    for (unit,) in results.values():
        for model in unit.models.values():
            np.testing.assert_array_equal(model.test.patients, first.test.patients)
            assert [found.case for found in model.heat_maps] == [found.case for found in first.heat_maps]


def test_every_arm_is_judged_on_all_members_validation_cases(finished: Settings) -> None:
    curves = {arm: units[0].curve for arm, units in results_of(tiny(), finished).items()}
    assert curves["federated"][0] == curves["centralised"][0]  # the same first model
    # In its first round site-3 has not joined yet, and the federation itself counts two sites' cases.
    assert replace_round(curves["joined"][0], 2) == curves["federated"][2]


def replace_round(point: Point, number: int) -> Point:
    return point.model_copy(update={"round": number})


def test_encryption_costs_next_to_nothing(finished: Settings) -> None:
    results = results_of(tiny(), finished)
    sealed, plain = (results[arm][0].model.test.probabilities for arm in ("federated", "federated-plaintext"))
    np.testing.assert_allclose(sealed, plain, atol=0.02)
    assert not any(results["federated-plaintext"][0].upload_bytes.values())
    nudged = results["federated-plaintext-last-bit"][0].model.test.probabilities
    np.testing.assert_allclose(nudged, plain, atol=0.02)
    assert not np.array_equal(nudged, plain), "it begins with another last bit"


def test_a_twin_asks_whom_its_original_asked(finished: Settings) -> None:
    results = results_of(tiny(), finished)
    own, twin = results["federated"][0], results["federated-plaintext"][0]
    assert own.contributors == twin.contributors == (("site-1", "site-2", "site-3"),) * 3
    assert set(twin.seconds) == {"train", "wall"}
    experiment = tiny()
    cohorts = Cohorts(experiment, finished, Silent())
    task = task_of(experiment, finished, experiment.arm("federated-plaintext"), 1, cohorts)
    assert task.original == finished.unit("federated", 1)


def test_an_arm_goes_on_from_another_ones_model(finished: Settings) -> None:
    experiment = tiny()
    task = task_of(experiment, finished, experiment.arm("joined"), 1, Cohorts(experiment, finished, Silent()))
    end = read_model(finished.unit("federated", 1) / "model.safetensors")
    np.testing.assert_array_equal(first_of(task).vector, end.vector)


def test_an_arm_takes_anothers_weights_without_its_head(finished: Settings) -> None:
    experiment = tiny()
    task = task_of(experiment, finished, experiment.arm("frozen"), 1, Cohorts(experiment, finished, Silent()))
    assert task.checkpoint == finished.unit("centralised", 1) / "weights.safetensors"
    handed = load_file(task.checkpoint)
    given = read_model(finished.unit("centralised", 1) / "model.safetensors")
    kept = {t.name: given.vector[place].reshape(t.shape) for t, place in given.layout.slices()}
    assert {name for name in kept if name not in handed} == {name for name in kept if fnmatchcase(name, *HEAD)}
    for name, values in handed.items():
        np.testing.assert_array_equal(values, kept[name])
    first = first_of(task)
    for tensor, place in first.layout.slices():
        if tensor.kind == "parameter" and len(tensor.shape) > 1:  # what is trained there is the head alone
            assert not np.array_equal(first.vector[place], kept[tensor.name].ravel())


def test_what_stays_at_sites_cannot_be_tried(finished: Settings, tmp_path: Path) -> None:
    experiment = tiny()
    task = task_of(experiment, finished, experiment.arm("federated"), 1, Cohorts(experiment, finished, Silent()))
    local = task.recipe.overridden({"network.local": ["features.1.*"]})
    with pytest.raises(RecipeError, match=r"network\.local.*never part of it"):
        train_unit(replace(task, recipe=local, folder=tmp_path), lambda: None)


def test_the_folder_that_is_shared_holds_no_work(trained: Settings) -> None:
    report = trained.out / "report"
    assert {path.name for path in report.iterdir()} == {
        "report.html",
        "report.md",
        "tables.md",
        "tables",
        "pictures",
    }
    text = (report / "report.md").read_text()
    assert "pleura-simulate experiment tiny" in text
    assert str(trained.out) not in text
    assert not list(trained.unit("federated", 1).glob("federation"))
