"""A recipe with differential privacy, simulated: encrypted, in plaintext, and from the command line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from crypto.layout import Layout, Tensor
from crypto.privacy import Privacy
from models.flatten import read_model, save_model
from models.recipe import load_recipe
from simulation.cli import app
from simulation.engine import Federated, RoundDone, Spec, run
from simulation.engine.standin import StandIns
from simulation.federation import Hospital

PROMISE = Privacy(clip=1.0, noise_multiplier=0.5, delta=1e-5)
LAYOUT = Layout((Tensor("weight", (40, 100), "parameter"),))
PRIVATE = {
    "federation.weighting": "equal",
    "federation.rounds": 2,
    "federation.fraction": 1.0,
    "federation.minimum_contributors": 3,
    "evaluation.metrics": "none",
    **{f"privacy.{key}": value for key, value in PROMISE.model_dump().items()},
}


def simulated(folder: Path, name: str, *, plaintext: bool, noise_seed: int | None = 5) -> Federated:
    recipe = load_recipe("fl-cxr-resnet18").overridden(PRIVATE)
    model = folder / "first.safetensors"
    save_model(model, np.zeros(LAYOUT.size, np.float32), LAYOUT, recipe)
    hospitals = [Hospital(f"site-{letter}", folder) for letter in "abc"]
    spec = Spec(
        recipe, model, hospitals, "lwe-ckks", "open", 1, 2, trainers=StandIns(), plaintext=plaintext,
        noise_seed=noise_seed,
    )  # fmt: skip

    def silent(done: RoundDone) -> None:
        """No progress."""

    return run(spec, folder / name, silent)


def test_encrypted_and_plaintext_runs_bear_the_same_noise(tmp_path: Path) -> None:
    sealed, plain = (simulated(tmp_path, name, plaintext=name == "plain") for name in ("sealed", "plain"))
    assert [row["kind"] for row in sealed.history] == [row["kind"] for row in plain.history] == ["training"] * 2
    one, other = read_model(sealed.model).vector, read_model(plain.model).vector
    assert np.abs(one - other).max() < 1e-5
    assert sealed.history[-1]["epsilon"] == pytest.approx(PROMISE.epsilon(2))


def test_without_a_seed_noise_is_fresh_and_as_promised(tmp_path: Path) -> None:
    models = [
        read_model(simulated(tmp_path, name, plaintext=True, noise_seed=None).model).vector for name in ("a", "b")
    ]
    difference = models[0].astype(float) - models[1]
    assert difference.std() == pytest.approx(PROMISE.deviation * math.sqrt(2 * 2) / 3, rel=0.05)  # two runs, two rounds


def test_from_the_command_line(tmp_path: Path) -> None:
    changes = [part for key, value in PRIVATE.items() for part in ("--set", f"{key}={value}")]
    command = ["run", "fl-cxr-resnet18", *changes, "--sites", "3", "--stand-in", "500", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert np.abs(read_model(tmp_path / "run/federation/models/round-002.safetensors").vector).max() > 0.1
    pooled = CliRunner().invoke(app, [*command, "--set", "evaluation.metrics=pooled"])
    assert pooled.exit_code == 1
    assert "pooled counts carry no noise" in pooled.output.replace("\n", " ")
