"""Networks by name: ours, and those that an installed package adds under the entry point group `pleura.networks`.

A builder takes `classes` and `channels` (both int) and its options by name, and returns a module that maps
[batch, channels, *size] to scores [batch, classes]. The module may say what it takes with an attribute `dimensions`
(2 or 3) and where to look for a heat map with `heat_map_layer` (the name of a submodule).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from torch import nn

from models.densenet3d import DenseNet3d
from models.flatten import LayoutMismatch, freeze
from models.recipe import Recipe
from models.recipe_problems import Problem, RecipeError, nearest
from models.torchvision_nets import resnet18

Builder = Callable[..., nn.Module]

GIVEN = ("classes", "channels")  # what every builder is told by the recipe's other sections
GROUP = "pleura.networks"
BUILT_IN: dict[str, Builder] = {"densenet3d": DenseNet3d, "resnet18": resnet18}


def names() -> list[str]:
    """Every network that a recipe can name here."""
    return sorted({*BUILT_IN, *_installed()})


def build(recipe: Recipe) -> nn.Module:
    """The recipe's network with fresh weights, drawn from torch's generator; its frozen parameters need no gradient.

    Raises:
        RecipeError: no such network, options that it does not have, or a size it does not take.
    """
    wanted = recipe.network
    builder = _builder(recipe)
    try:
        network = builder(classes=len(wanted.classes), channels=recipe.input.channels, **wanted.options)
    except (TypeError, ValueError) as error:
        raise _refused(
            recipe, "network.options", str(error), f"{wanted.name} has the options {_options(builder)}"
        ) from error
    dimensions = getattr(network, "dimensions", len(recipe.input.size))
    if dimensions != len(recipe.input.size):
        what = f"{wanted.name} takes {dimensions} sides, not {list(recipe.input.size)}"
        raise _refused(recipe, "input.size", what, f"give {dimensions} sides, or another network")
    try:
        freeze(network, wanted.frozen)
    except LayoutMismatch as error:
        raise _refused(recipe, "network.frozen", str(error), "correct the pattern") from error
    return network


def _builder(recipe: Recipe) -> Builder:
    name = recipe.network.name
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name in (installed := _installed()):
        builder: Builder = installed[name].load()
        return builder
    fix = f"{nearest(name, names())}; installed here: {', '.join(names())}"
    raise _refused(recipe, "network.name", f"there is no network {name!r}", fix)


def _installed() -> dict[str, EntryPoint]:
    """Networks of other packages. None can take the name of one of ours."""
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in BUILT_IN}


def _options(builder: Builder) -> str:
    own = [name for name in inspect.signature(builder).parameters if name not in GIVEN]
    return ", ".join(own) or "none"


def _refused(recipe: Recipe, key: str, what: str, fix: str) -> RecipeError:
    return RecipeError(recipe.file, [Problem(key, what, fix)])
