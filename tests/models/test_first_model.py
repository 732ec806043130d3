"""What a study starts from: fresh weights, a checkpoint's, an earlier study's; and what cannot be a start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.checkpoints import digest_of
from models.first_model import first_model
from models.flatten import LayoutMismatch, SavedModel, save_model
from models.recipe import Recipe, load_recipe
from models.recipe_problems import RecipeError
from models.registry import build

SMALL = {"network.options.width": 4, "network.options.growth": 4, "training.momentum": 0.0}


def recipe(**changes: Any) -> Recipe:
    return load_recipe("ucadi").overridden(SMALL | {key.replace("__", "."): value for key, value in changes.items()})


def values(of: SavedModel, name: str) -> np.ndarray:
    return {tensor.name: of.vector[place] for tensor, place in of.layout.slices()}[name]


def saved(of: SavedModel, path: Path) -> Path:
    save_model(path, of.vector, of.layout, of.recipe)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(11)
    path = tmp_path / "weights.safetensors"
    save_file(dict(build(recipe()).state_dict()), path)
    return path


def test_the_seed_decides_fresh_weights_and_disturbs_nobody() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (first_model(recipe(), seed) for seed in (1, 1, 2))
    assert torch.rand(1) == expected
    assert np.array_equal(first.vector, again.vector)
    assert not np.array_equal(first.vector, other.vector)


def test_a_checkpoint_gives_first_weights_and_its_digest_to_the_recipe(checkpoint: Path, tmp_path: Path) -> None:
    made = first_model(recipe(), 0, pretrained=checkpoint)
    assert made.recipe.network.pretrained == digest_of(checkpoint)
    again = first_model(made.recipe, 1, folder=tmp_path)  # the recipe names it now
    assert np.array_equal(again.vector, made.vector)
    torch.manual_seed(11)
    assert np.array_equal(values(made, "stem.0.weight"), build(recipe()).stem[0].weight.detach().numpy().ravel())
    with pytest.raises(RecipeError, match=r"network\.pretrained"):
        first_model(recipe(network__pretrained="ab" * 32), 0, pretrained=checkpoint)


def test_a_later_study_starts_where_an_earlier_one_ended(tmp_path: Path) -> None:
    earlier = first_model(recipe(federation__scaffold=True), 1)
    earlier.vector[:] = np.arange(earlier.layout.size)
    path = saved(earlier, tmp_path / "earlier.safetensors")
    later = first_model(recipe(federation__rounds=30), 2, earlier=path)
    assert np.array_equal(later.vector, np.arange(later.layout.size))
    corrected = first_model(recipe(federation__scaffold=True, federation__rounds=30), 2, earlier=path)
    assert np.array_equal(corrected.vector[: later.layout.size], later.vector)
    assert not corrected.vector[later.layout.size :].any(), "no site has a control variate in the new study"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"network__classes": ["a", "b", "c", "d"]}, "its classes are healthy"),
        ({"network__options__width": 8}, r"such as head\.0\.bias, \[\d+\] there and \[\d+\] here"),
        ({"network__local": ["head.*"]}, r"such as head.*, \[\d+\] there and none here"),
        ({"network__frozen": ["stem.*"]}, "what was frozen there is not in it"),
    ],
)
def test_another_studys_model_is_no_start(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = saved(first_model(recipe(), 1), tmp_path / "earlier.safetensors")
    with pytest.raises(LayoutMismatch, match=says):
        first_model(recipe(**changes), 1, earlier=path)


def test_frozen_parts_of_one_checkpoint_go_on_and_of_another_do_not(checkpoint: Path, tmp_path: Path) -> None:
    frozen = recipe(network__frozen=["stem.*"])
    earlier = first_model(frozen, 1, pretrained=checkpoint)
    path = saved(earlier, tmp_path / "earlier.safetensors")
    later = first_model(frozen.overridden({"federation.rounds": 30}), 2, pretrained=checkpoint, earlier=path)
    assert np.array_equal(later.vector, earlier.vector)
    with pytest.raises(LayoutMismatch, match=r"Name the same network\.pretrained"):
        first_model(frozen, 1, earlier=path)
