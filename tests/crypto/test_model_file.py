"""A model's file: the same bytes from the same mean, and what it says of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load, save

from crypto.canonical import canonical, sha256
from crypto.errors import Malformed
from crypto.layout import CountField, Layout, Tensor
from crypto.model_file import MODEL_FORMAT, next_model

LAYOUT = Layout(
    (Tensor("weight", (30, 50), "parameter"), Tensor("mean", (7,), "buffer"), Tensor("scale", (), "parameter")),
    (CountField("cases", ()),),
)
STUDY, RECIPE = UUID(int=5), {"name": "tiny", "länge": 3}


def base(**tensors: np.ndarray) -> bytes:
    random = np.random.default_rng(1)
    values = {tensor.name: random.normal(size=tensor.shape).astype(np.float32) for tensor in LAYOUT.tensors}
    return save({name: np.asarray(value) for name, value in (values | tensors).items()}, {"format": MODEL_FORMAT})


def mean() -> np.ndarray:
    return np.random.default_rng(2).normal(0, 0.1, LAYOUT.size).astype(np.float32)


def test_the_file_holds_base_plus_mean_and_says_what_it_is(tmp_path) -> None:
    data = next_model(base(), LAYOUT, mean(), RECIPE, STUDY, 4)
    former, found = load(base()), load(data)
    assert found.keys() == {"weight", "mean", "scale"}
    for tensor, place in LAYOUT.slices():
        np.testing.assert_array_equal(found[tensor.name].reshape(-1), former[tensor.name].reshape(-1) + mean()[place])
    (tmp_path / "model.safetensors").write_bytes(data)
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert file.metadata() == {
            "format": "pleura/model/v1",
            "layout": canonical(LAYOUT.to_json()).decode(),
            "recipe": canonical(RECIPE).decode(),
            "study": str(STUDY),
            "round": "4",
        }


PROGRAM = """
import sys; sys.path.insert(0, {folder!r})
from test_model_file import LAYOUT, RECIPE, STUDY, base, mean, next_model, sha256
print(sha256(next_model(base(), LAYOUT, mean(), RECIPE, STUDY, 4)))
"""


def test_every_process_writes_the_same_bytes() -> None:
    """safetensors keeps metadata in an order that differs between processes."""
    program = PROGRAM.format(folder=str(Path(__file__).parent))
    found = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(4)
    }
    assert found == {sha256(next_model(base(), LAYOUT, mean(), RECIPE, STUDY, 4))}


@pytest.mark.parametrize(
    "spoiled",
    [
        b"",
        b"not safetensors",
        base()[:-1],
        base(weight=np.zeros((50, 30), np.float32)),
        base(weight=np.zeros((30, 50), np.float64)),
        save({"weight": np.zeros((30, 50), np.float32)}),
    ],
)
def test_a_base_that_is_no_model_of_the_layout(spoiled: bytes) -> None:
    with pytest.raises(Malformed, match="the base model"):
        next_model(spoiled, LAYOUT, mean(), RECIPE, STUDY, 4)
