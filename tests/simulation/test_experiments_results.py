"""What units leave behind, and the figures that are taken from it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import experiment_values as values

from simulation.experiments import measures
from simulation.experiments.results import RESULT, Examined, Predictions, UnitResult, read_result, write_result


def unit(probabilities: list[list[float]], labels: list[int], sites: list[str] | None = None) -> UnitResult:
    n = len(labels)
    test = Predictions(
        np.array(probabilities, np.float32),
        np.array(labels),
        np.array([f"P{number}" for number in range(n)]),
        np.array(sites or ["site-1"] * n),
    )
    return UnitResult("arm", 1, ("well", "ill"), {"arm": Examined(test)})


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = values.unit("alone", 2)
    write_result(written, tmp_path)
    found = read_result(tmp_path)
    assert found is not None
    for name in ("arm", "seed", "classes", "curve", "cases", "seconds", "upload_bytes", "recipe", "parameters"):
        assert getattr(found, name) == getattr(written, name), name
    assert list(found.models) == list(written.models)
    for name, model in written.models.items():
        again = found.models[name]
        for split in ("test", "training"):
            for field, array in vars(getattr(model, split)).items():
                np.testing.assert_array_equal(getattr(getattr(again, split), field), array)
        assert again.validation is None
        assert [(m.label, m.case, m.given) for m in again.heat_maps] == [
            (m.label, m.case, m.given) for m in model.heat_maps
        ]
        np.testing.assert_allclose(again.heat_maps[1].heat, model.heat_maps[1].heat, atol=1e-3)


def test_a_result_from_before_contributors_were_written_down(tmp_path: Path) -> None:
    write_result(replace(values.unit("federated", 1), contributors=(("site-1", "site-2"),)), tmp_path)
    file = tmp_path / RESULT
    found = read_result(tmp_path)
    assert found is not None
    assert found.contributors == (("site-1", "site-2"),)
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "contributors"}))
    old = read_result(tmp_path)
    assert old is not None
    assert old.contributors == ()


def test_a_unit_without_its_last_file_is_not_done(tmp_path: Path) -> None:
    write_result(values.unit("federated", 1), tmp_path)
    (tmp_path / RESULT).unlink()
    assert read_result(tmp_path) is None


def test_figures_of_a_worked_example() -> None:
    # Of three ill ones two are called ill, of two well ones one is.
    found = unit([[0.1, 0.9], [0.3, 0.7], [0.8, 0.2], [0.9, 0.1], [0.4, 0.6]], [1, 1, 1, 0, 0])
    assert measures.accuracy()(found) == pytest.approx(3 / 5)
    assert measures.recall("ill")(found) == pytest.approx(2 / 3)
    assert measures.specificity("ill")(found) == pytest.approx(1 / 2)
    assert measures.precision("ill")(found) == pytest.approx(2 / 3)
    assert measures.macro_recall()(found) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert measures.auc("ill")(found) == pytest.approx(5 / 6)  # of six pairs one is the wrong way round
    assert measures.loss()(found) == pytest.approx(-np.mean(np.log([0.9, 0.7, 0.2, 0.9, 0.4])))
    np.testing.assert_array_equal(measures.confusion(found.model.test), [[1, 1], [1, 2]])


def test_what_is_not_defined_is_none() -> None:
    found = unit([[0.9, 0.1], [0.8, 0.2]], [0, 0])
    assert measures.recall("ill")(found) is None
    assert measures.precision("ill")(found) is None
    assert measures.auc("ill")(found) is None
    assert measures.accuracy("training")(found) is None
    assert measures.best_validation("loss")(found) is None
    assert measures.rounds_run()(found) is None
    assert measures.seconds("seal")(found) is None


def test_figures_of_some_hospitals_alone() -> None:
    found = unit([[0.1, 0.9], [0.9, 0.1], [0.1, 0.9]], [1, 1, 1], ["site-1", "site-2", "site-2"])
    assert measures.recall("ill", sites=["site-2"])(found) == pytest.approx(1 / 2)
    assert measures.recall("ill", sites=["site-1", "site-2"])(found) == pytest.approx(2 / 3)
    assert measures.over_sites("accuracy")(found) == pytest.approx(3 / 4)  # each hospital counts alike


def test_a_figure_of_several_models_is_their_mean() -> None:
    good, bad = unit([[0.1, 0.9]], [1]).model, unit([[0.9, 0.1]], [1]).model
    found = replace(unit([[0.1, 0.9]], [1]), models={"site-1": good, "site-2": bad})
    assert measures.recall("ill")(found) == pytest.approx(1 / 2)
    assert measures.of_model("site-2", measures.recall("ill"))(found) == 0
    assert measures.of_model("site-3", measures.recall("ill"))(found) is None
    with pytest.raises(ValueError, match="2 models"):
        _ = found.model


def test_the_best_round_counts() -> None:
    found = values.unit("federated", 1)
    assert measures.best_validation("accuracy")(found) == max(p.accuracy for p in found.curve if p.accuracy)
    assert measures.best_validation("loss")(found) == min(p.loss for p in found.curve if p.loss)
    assert measures.rounds_run()(found) == 8
