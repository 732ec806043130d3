"""Evaluated and exported on real films: what the ONNX file says of them is what the report is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.export import export_network
from models.export.agreement import TOLERANCE
from models.flatten import load_vector, study_layout, to_vector
from models.onnx_runtime import onnxruntime
from models.recipe import load_recipe
from models.registry import build
from participant.evaluation.predictions import Predictions
from participant.evaluation.report import write_report
from participant.evaluation.result import Subject, evaluated
from participant.terms import RoundTerms
from participant.training import site_trainer
from simulation.hospitals import split_hospitals

DATA = Path(__file__).parents[2].parent / "shared/data"
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the real images are not at {DATA}"),
]


def test_real_films_through_the_file_and_the_report(tmp_path: Path) -> None:
    classes = ["normal", "pneumonia", "covid"]
    changes: dict[str, Any] = {
        "network.classes": classes,
        "input.size": [64, 64],
        "training.local_epochs": 1,
        "training.lr": 3e-4,
        "training.precision": "32",  # as files compute
    }
    recipe = load_recipe("fl-cxr-resnet18").overridden(changes)
    (hospital,) = split_hospitals(DATA / "xray-3class", classes, tmp_path / "films", sites=1, seed=1, limit=60)
    torch.manual_seed(0)
    network = build(recipe)
    layout = study_layout(network, recipe)
    trainer = site_trainer(recipe, hospital.data, tmp_path / "cache", 1)
    trained = trainer.train(to_vector(network, layout), layout, RoundTerms(round=1), lambda *_: None)
    test = trainer.cases.test
    probabilities = trainer.probabilities(trained.vector, layout, test, lambda *_: None)

    load_vector(network, layout, trained.vector)
    files = export_network(network, recipe, "ab" * 32, tmp_path / "net", ["onnx"])
    session = onnxruntime.InferenceSession(files[0].path, providers=["CPUExecutionProvider"])
    inputs = np.concatenate([test.evaluation_inputs(case).numpy() for case in range(len(test))])
    found = session.run(["probabilities"], {"inputs": inputs})[0]
    np.testing.assert_allclose(found, probabilities, atol=TOLERANCE)

    cases = [case for part in test.parts for case in part.cases]
    patients = np.array([case.patient for case in cases])
    predictions = Predictions(
        tuple(classes), np.asarray(found), test.labels, patients, tuple(case.path for case in cases)
    )
    subject = Subject("films", recipe.name, recipe.digest, "ab" * 32, 1, "test", "2026-11-22")
    write_report(evaluated(subject, predictions, resamples=200, draws=30), tmp_path / "report")
    value = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert value["cases"] == len(cases) > 20
    assert value["patients"] == len(set(patients)) <= value["cases"]
    assert value["macro_auc"]["value"] > 0.6, "above even chance: films of these classes come from different sources"
    texts = "".join(path.read_text() for path in (tmp_path / "report").iterdir())
    assert not [case.path.name for case in cases if case.path.name in texts]
