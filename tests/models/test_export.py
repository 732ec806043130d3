"""Exported files give the network's own answers, say how to prepare an image, and are refused where they do not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.special import softmax
from torch import Tensor, nn

from models.export import FORMATS, ExportDisagrees, ExportUnavailable, Format, export_network, read_network, read_recipe
from models.export.agreement import TOLERANCE, Trial, check_agreement
from models.export.predictor import prepared_range, trial_inputs
from models.flatten import LayoutMismatch
from models.onnx_runtime import onnxruntime
from models.recipe import Recipe, load_recipe
from models.registry import build

DIGEST = "ab" * 32
#: Of every network that comes with Pleura a recipe, and the smallest useful input.
SMALL: dict[str, tuple[int, ...]] = {
    "ucadi": (6, 16, 16),
    "intermittent-cnn": (40, 40),
    "fl-cxr-covidnet": (40, 40),
    "fl-cxr-resnet18": (64, 64),
    "fl-cxr-mobilenetv2": (64, 64),
    "fl-cxr-resnext50": (64, 64),
    "chexnet-transfer": (64, 64),
    "vgg16-transfer": (32, 32),
}
ROOT = Path(__file__).parents[2]
SLOW = {"fl-cxr-resnext50", "chexnet-transfer", "vgg16-transfer", "fl-cxr-covidnet"}


def recipe_of(name: str, size: tuple[int, ...] | None = None) -> Recipe:
    changes: dict[str, Any] = {"network.pretrained": None, "network.frozen": []}
    return load_recipe(name).overridden(changes | ({"input.size": list(size)} if size else {}))


def network_of(recipe: Recipe) -> nn.Module:
    """Fresh, with running statistics of noise: without any, scores of deep networks are near 0 or beyond all bounds."""
    torch.manual_seed(0)
    network = build(recipe)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(4, recipe.input.channels, *recipe.input.size))
    return network


def scores_of(chosen: Format, path: Path, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities, scores), as somebody gets them who has nothing of ours but the file."""
    if chosen == "onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        probabilities, scores = session.run(["probabilities", "scores"], {"inputs": inputs})
        return probabilities, scores
    with torch.inference_mode():
        if chosen == "torch":
            probabilities, scores = torch.export.load(path).module()(torch.from_numpy(inputs))
            return probabilities.numpy(), scores.numpy()
        scores = read_network(path)(torch.from_numpy(inputs)).numpy()
        return softmax(scores, axis=1), scores


def check_files(recipe: Recipe, network: nn.Module, folder: Path, batches: tuple[int, ...]) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    mode = network.training
    files = export_network(network, recipe, DIGEST, folder / "net")
    assert network.training is mode
    assert [each.format for each in files] == list(FORMATS)
    assert sorted(path.name for path in folder.iterdir()) == ["net.onnx", "net.pt2", "net.safetensors"]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    network.eval()
    rng = np.random.default_rng(7)
    for batch in batches:
        inputs = rng.normal(0.3, 1.5, (batch, recipe.input.channels, *recipe.input.size)).astype(np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(inputs)).numpy()
        scale = max(1.0, float(np.abs(expected).max()))
        for each in files:
            probabilities, scores = scores_of(each.format, each.path, inputs)
            np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE * scale, err_msg=each.format)
            np.testing.assert_allclose(probabilities, softmax(expected, axis=1), rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.nightly if n in SLOW else ()) for n in SMALL])
def test_every_network_gives_its_own_answers_in_every_format(name: str, tmp_path: Path) -> None:
    recipe = recipe_of(name, SMALL[name])
    network = network_of(recipe).train()  # dropout and DropBlock have to be off all the same
    check_files(recipe, network, tmp_path, (1, 5))


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["ucadi", "fl-cxr-resnet18", "intermittent-cnn"])
def test_published_sizes(name: str, tmp_path: Path) -> None:
    recipe = recipe_of(name)
    torch.manual_seed(0)
    check_files(recipe, build(recipe), tmp_path, (1,))


def test_the_files_say_how_an_image_is_prepared(tmp_path: Path) -> None:
    recipe = recipe_of("ucadi", (4, 8, 8))
    files = export_network(build(recipe), recipe, DIGEST, tmp_path / "net", statistics=(-500.0, 250.0))
    told = []
    with safe_open(tmp_path / "net.safetensors", "np") as file:
        told.append(file.metadata())
    extra = {"description.json": ""}
    torch.export.load(tmp_path / "net.pt2", extra_files=extra)
    told.append(json.loads(extra["description.json"]))
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    told.append(session.get_modelmeta().custom_metadata_map)
    assert told[0] == told[1] == told[2]
    found = told[0]
    assert json.loads(found["classes"]) == list(recipe.network.classes)
    assert json.loads(found["size"]) == [4, 8, 8]
    assert json.loads(found["hu_window"]) == [-1200, 600]
    assert (json.loads(found["mean"]), json.loads(found["std"])) == (-500, 250), "this site's own, where it has some"
    assert json.loads(found["subsets"]) == 5
    assert (found["model"], found["recipe_digest"]) == (DIGEST, recipe.digest)
    assert "not a medical device" in found["use"]
    assert read_recipe(files[0].path) == recipe
    (given,) = session.get_inputs()
    assert (given.name, given.shape) == ("inputs", ["batch", 1, 4, 8, 8])
    assert [(each.name, each.shape) for each in session.get_outputs()] == [
        ("probabilities", ["batch", 4]),
        ("scores", ["batch", 4]),
    ]


def test_a_network_exports_alike_each_time(tmp_path: Path) -> None:
    recipe = recipe_of("intermittent-cnn", (40, 40))
    network = network_of(recipe)
    first, again = (export_network(network, recipe, DIGEST, tmp_path / name, ["safetensors"])[0] for name in "ab")
    assert first.sha256 == again.sha256


class OtherwiseWhenTraced(nn.Module):
    """What a network must not be: Python decides, and is gone from the file."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by
        self.linear = nn.Linear(64, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.linear(inputs.flatten(1))
        return scores + self.by if torch.compiler.is_exporting() else scores


@pytest.mark.parametrize("chosen", ["torch", "onnx"])
def test_a_file_that_disagrees_is_refused_and_removed(chosen: Format, tmp_path: Path) -> None:
    recipe = recipe_of("intermittent-cnn", (8, 8))
    torch.manual_seed(0)
    export_network(OtherwiseWhenTraced(0.0), recipe, DIGEST, tmp_path / "sound", [chosen])
    sound = sorted(tmp_path.iterdir())
    with pytest.raises(ExportDisagrees, match=r"by 0\.01 in a score, where 0\.0001 is allowed"):
        export_network(OtherwiseWhenTraced(0.01), recipe, DIGEST, tmp_path / "other", [chosen])
    assert sorted(tmp_path.iterdir()) == sound


def test_a_network_whose_scores_are_no_numbers_is_refused(tmp_path: Path) -> None:
    recipe = recipe_of("intermittent-cnn", (40, 40))
    network = build(recipe)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    with pytest.raises(ExportDisagrees, match="no finite numbers"):
        export_network(network, recipe, DIGEST, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_what_agreement_means() -> None:
    inputs = np.zeros((2, 1), np.float32)
    trial = Trial(inputs, np.array([[0, 50.0], [0, -50.0]], np.float32))
    file = Path("net.onnx")
    assert check_agreement(file, lambda _: trial.expected + np.float32(0.004), [trial]) == pytest.approx(8e-5, rel=1e-2)
    for wrong in (np.float32(0.006), np.float32(np.nan), np.float32(np.inf)):
        with pytest.raises(ExportDisagrees):
            check_agreement(file, lambda _, wrong=wrong: trial.expected + wrong, [trial])  # type: ignore[misc]
    with pytest.raises(ExportDisagrees, match=r"scores \[1, 2\]"):
        check_agreement(file, lambda _: trial.expected[:1], [trial])


def test_trial_inputs_reach_from_the_darkest_to_the_brightest() -> None:
    recipe = recipe_of("ucadi", (4, 8, 8))
    darkest, brightest = prepared_range(recipe)
    assert (darkest, brightest) == (pytest.approx(-1.2173, abs=1e-4), pytest.approx(2.4605, abs=1e-4))
    single, pair = trial_inputs(recipe)
    assert (single.shape, pair.shape) == ((1, 1, 4, 8, 8), (2, 1, 4, 8, 8))
    np.testing.assert_allclose([pair[1].min(), pair[1].max()], [darkest, brightest], rtol=1e-6)


def test_a_damaged_or_strange_file_is_no_network(tmp_path: Path) -> None:
    recipe = recipe_of("intermittent-cnn", (40, 40))
    (file,) = export_network(build(recipe), recipe, DIGEST, tmp_path / "net", ["safetensors"])
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:-100])
    with pytest.raises(LayoutMismatch, match="cut short"):
        read_network(file.path)
    file.path.write_bytes(whole.replace(b"pleura/export/v1", b"pleura/model/v1 "))
    with pytest.raises(LayoutMismatch, match="no exported network"):
        read_network(file.path)


def test_what_onnx_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of("intermittent-cnn", (40, 40))
    monkeypatch.setattr("models.export.formats.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ExportUnavailable, match="pip install onnxscript,"):
        export_network(build(recipe), recipe, DIGEST, tmp_path / "net", ["onnx"])


def test_onnxruntime_does_not_call_its_maker() -> None:
    """It would from its import on, unless a variable forbids it before."""
    code = "import os; import models.onnx_runtime; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "1\n"
    packages = [package for name in ("models", "participant", "simulation") for package in (ROOT / name).rglob("*.py")]
    loading = [str(file.relative_to(ROOT)) for file in packages if "\nimport onnxruntime\n" in file.read_text()]
    assert loading == ["models/onnx_runtime.py", "participant/card/loading.py"], "the latter in a text for others"
