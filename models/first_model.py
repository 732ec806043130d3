"""The model that a study starts from: fresh, with pretrained weights, or where an earlier study ended."""

from __future__ import annotations

from pathlib import Path

import torch

from crypto.layout import Layout, Tensor
from models.checkpoints import digest_of
from models.flatten import CONTROL, LayoutMismatch, SavedModel, Vector, read_model, study_layout, to_vector
from models.recipe import Recipe
from models.registry import build


def first_model(
    recipe: Recipe,
    seed: int,
    *,
    pretrained: Path | None = None,
    folder: Path | None = None,
    earlier: Path | None = None,
) -> SavedModel:
    """A study's first model, as `save_model` takes it.

    Args:
        seed: of fresh weights.
        pretrained: a checkpoint file. A recipe that names none gets this file's digest.
        folder: where else the files that the recipe names are looked for.
        earlier: a model file of an earlier study of the same network, whose shared tensors this one starts with.

    Raises:
        RecipeError: the network cannot be built.
        LayoutMismatch: the earlier model is of another network, or other parts of it were trained.
        OSError: a file that cannot be read.
    """
    if pretrained is not None and recipe.network.pretrained is None:
        recipe = recipe.overridden({"network.pretrained": digest_of(pretrained)})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = build(recipe, pretrained, folder)
    layout = study_layout(network, recipe)
    vector = to_vector(network, layout)
    if earlier is not None:
        _start_with(vector, layout, recipe, earlier)
    return SavedModel(vector, layout, recipe)


def _start_with(vector: Vector, layout: Layout, recipe: Recipe, earlier: Path) -> None:
    """Put the earlier model's tensors into the vector. Control variates start at 0: the sites' own do, too."""
    saved = read_model(earlier)
    _check_alike(saved.recipe, recipe, earlier)
    here, there = _shared(layout), _shared(saved.layout)
    if different := sorted(name for name in {*here, *there} if _shape(here, name) != _shape(there, name)):
        name = different[0]
        raise LayoutMismatch(
            f"a study cannot start with {earlier}: {len(different)} of the shared tensors differ, such as {name}, "
            f"{_shape(there, name)} there and {_shape(here, name)} here. To take over what fits of it and leave the "
            "rest fresh, give it as pretrained"
        )
    for name, (_, place) in here.items():
        vector[place] = saved.vector[there[name][1]]


def _check_alike(former: Recipe, recipe: Recipe, earlier: Path) -> None:
    if former.network.classes != recipe.network.classes:
        raise LayoutMismatch(
            f"a study cannot start with {earlier}: its classes are {', '.join(former.network.classes)}, "
            f"not {', '.join(recipe.network.classes)}"
        )
    # Without a file, what is frozen is drawn from the recipe's digest, so that another recipe has other values.
    if recipe.network.frozen and (
        recipe.network.pretrained is None or former.network.pretrained != recipe.network.pretrained
    ):
        raise LayoutMismatch(
            f"a study cannot start with {earlier}: what was frozen there is not in it, and here it would be something "
            "else. Name the same network.pretrained as there, or freeze nothing"
        )


def _shared(layout: Layout) -> dict[str, tuple[Tensor, slice]]:
    return {t.name: (t, place) for t, place in layout.slices() if not t.name.startswith(CONTROL)}


def _shape(tensors: dict[str, tuple[Tensor, slice]], name: str) -> str:
    return str(list(tensors[name][0].shape)) if name in tensors else "none"
