"""Model cards: their snippets run as they are, they say what the coordinator says, and they hand nothing out unseen."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_volumes import recipe as small_recipe

from models.export import Exported, export_network
from models.recipe import Recipe, load_recipe
from models.registry import build
from models.statistics import Interval
from participant.card.card import LIMITS, ModelCard
from participant.card.facts import ClassFigures, RoundFigures, StudyFacts

ROOT = Path(__file__).parents[2]
MEASURED = RoundFigures(
    round=4,
    cases=97,
    loss=0.41,
    accuracy=Interval(0.81, 0.72, 0.88),
    macro_auc=Interval(0.93, 0.9, 0.96),
    epsilon=None,
    classes=tuple(ClassFigures(name, 30 + n, Interval(0.9, 0.8, 0.95), 0.7, None) for n, name in enumerate("abc")),
)
STUDY = StudyFacts(
    name="ct-1",
    id="7f0c",
    round=3,
    rounds_planned=10,
    hospitals=("north", "south", "west"),
    training_cases=1204,
    scheme="lwe-ckks",
    trust="nobody sees a single update",
    release="open",
    weighting="samples",
    minimum_contributors=3,
    privacy=None,
    epsilon=None,
    measured=MEASURED,
    rounds=(replace(MEASURED, round=3, macro_auc=None), MEASURED),
)
FILE = Exported("onnx", Path("net.onnx"), "ef" * 32, 1234, 1e-6)


def card(recipe: Recipe | None = None, **changes: Any) -> ModelCard:
    given = {
        "title": "ct-1, after round 3",
        "written": "2026-11-22",
        "digest": "ab" * 32,
        "parameters": 726_972,
        "layout_digest": "cd" * 32,
        "recipe": recipe or load_recipe("ucadi"),
        "files": [FILE],
        "study": STUDY,
    }
    return ModelCard(**(given | changes))  # type: ignore[arg-type]


def programs(markdown: str) -> list[str]:
    return re.findall(r"```python\n(.*?)\n```", markdown, re.DOTALL)


def films() -> Recipe:
    return load_recipe("intermittent-cnn").overridden({"input.size": [40, 40], "input.channels": 3})


@pytest.mark.parametrize("recipe", [small_recipe(), films()], ids=["ct", "xray"])
def test_the_snippets_load_the_files_and_say_what_the_network_says(recipe: Recipe, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = build(recipe).eval()
    files = export_network(network, recipe, "ab" * 32, tmp_path / "a model's")
    text = card(recipe, files=files, study=None).to_markdown()
    given = recipe.preprocessing
    grey = ((-800.0 if given.ct else 0.5) - given.mean) / given.std
    with torch.inference_mode():
        scores = network(torch.full((1, recipe.input.channels, *recipe.input.size), grey))
    expected = dict(zip(recipe.network.classes, scores.softmax(dim=1)[0].tolist(), strict=True))
    found = programs(text)
    assert len(found) == 3
    for program in found:
        told = ast.literal_eval(answer(program, tmp_path))
        assert told == pytest.approx(expected, abs=1e-5)


def answer(program: str, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_it_says_of_limits_what_the_coordinator_says() -> None:
    page = (ROOT / "coordinator/web/templates/model.html").read_text()
    said = re.search(r'<h2 id="limits">[^<]*</h2>\s*<p>(.*?)</p>', page, re.DOTALL)
    assert said is not None
    assert unescape(said[1]) == LIMITS
    assert LIMITS in card().to_markdown()
    assert card().to_json()["limits"] == LIMITS
    assert "Measured in round" in page
    assert "validation cases of all hospitals that took part, together." in page


def test_everything_known_of_a_study_is_in_it() -> None:
    text = card().to_markdown()
    for words in (
        "in round 3 of 10 of ct-1",
        "Updates of 3 hospitals are in it: north, south, west. They trained on 1,204 cases together.",
        "Measured in round 4 of ct-1, on 97 validation cases of all hospitals that took part, together.",
        "| 0.930 (0.900 to 0.960) | 0.810 (0.720 to 0.880) | 0.410 |",
        "| b | 0.900 (0.800 to 0.950) | 0.700 | – |",
        "| 3 | 97 | – | 0.810 (0.720 to 0.880) | 0.410 |",
        "lwe-ckks: nobody sees a single update",
        "| Differential privacy | of whole hospitals: none |",
        "726,972",
        "ab" * 32,
        load_recipe("ucadi").digest,
        "ef" * 32,
    ):
        assert words in text
    value = json.loads(json.dumps(card().to_json()))
    assert value["study"]["measured"]["macro_auc"] == {"value": 0.93, "low": 0.9, "high": 0.96}
    assert (value["recipe"]["sha256"], value["recipe"]["name"]) == (load_recipe("ucadi").digest, "ucadi")
    unmeasured = replace(STUDY, measured=None, rounds=())
    assert "Not measured yet" in card(study=unmeasured).to_markdown()
    silent = load_recipe("ucadi").overridden({"evaluation.metrics": "none"})
    assert "count nothing on their cases" in card(silent, study=unmeasured).to_markdown()


def test_privacy_that_was_promised_is_told_with_its_epsilon() -> None:
    promised = {"clip": 2.5, "noise_multiplier": 1.1, "delta": 1e-5}
    study = replace(STUDY, privacy=promised, epsilon=3.456, rounds=(replace(MEASURED, epsilon=3.456),))
    text = card(study=study).to_markdown()
    assert "clip 2.5, noise multiplier 1.1, delta 1e-05; epsilon 3.46 after this round" in text
    assert "| 0.410 | 3.46 |" in text
    single = {"max_grad_norm": 1.0, "noise_multiplier": 0.8, "delta": 1e-5}
    assert "DP-SGD" not in text
    assert "noise multiplier 0.8" in card(load_recipe("ucadi").overridden({"training.dp_sgd": single})).to_markdown()


def test_what_only_this_site_has_is_said() -> None:
    plain = card().to_markdown()
    assert "this hospital's own" not in plain
    assert "of this hospital's own training cases" not in plain
    assert "**12 tensors in these files are this hospital's own**" in card(own_tensors=12).to_markdown()
    assert "of this hospital's own training cases" in card(statistics=(-500.0, 300.0)).to_markdown()
    assert "- -500.0) / 300.0" in card(statistics=(-500.0, 300.0)).to_markdown()


def test_this_sites_evaluation_is_in_it_when_it_is_given() -> None:
    figure = {"value": 0.9, "low": 0.8, "high": 0.95}
    own = {
        "cases": 40, "patients": 38, "split": "test", "written": "2026-11-22", "macro_auc": figure, "accuracy": figure,
        "loss": None, "brier": figure,
        "classes": [{"name": "a", "cases": 12, "auc": figure, "sensitivity": None, "specificity": figure}],
    }  # fmt: skip
    assert "At this hospital" not in card().to_markdown()
    text = card(evaluation=own).to_markdown()
    assert "On 40 test cases of 38 patients" in text
    assert "| a | 12 | 0.900 (0.800 to 0.950) | – | 0.900 (0.800 to 0.950) |" in text


def test_names_that_others_chose_stay_text() -> None:
    text = card(study=replace(STUDY, name="a|b\n# c", hospitals=("<script>",)), title="`x`").to_markdown()
    assert "in round 3 of 10 of a\\|b \\# c" in text
    assert "<script" not in text.replace("\\<script\\>", "")
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({len(re.findall(r"(?<!\\)\|", line)) for line in each.splitlines()}) == 1 for each in tables)


def test_numbers_are_no_numpy_and_it_is_written_twice(tmp_path: Path) -> None:
    path = card(parameters=int(np.int64(7))).write(tmp_path)
    assert path.read_text() == card(parameters=7).to_markdown()
    assert json.loads((tmp_path / "model-card.json").read_text())["model"]["parameters"] == 7
