"""Networks by name: ours, those of installed packages (entry point group `pleura.networks`), those of a site's files.

A builder takes `classes` and `channels` (both int) and its options by name, and returns a module that maps
[batch, channels, *size] to scores [batch, classes]. The module may say what it takes with an attribute `dimensions`
(2 or 3) and where to look for a heat map with `heat_map_layer` (the name of a submodule).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import torch
from torch import nn

from models.checkpoints import Checkpoint, CheckpointError, find_checkpoint, load_checkpoint, read_checkpoint
from models.covidnet import CovidNet
from models.densenet3d import DenseNet3d
from models.flatten import LayoutMismatch, freeze
from models.intermittent_cnn import IntermittentCnn
from models.own_networks import OwnNetworkError, builder_from
from models.recipe import Recipe
from models.recipe_problems import Problem, RecipeError, nearest
from models.torchvision_nets import densenet121, mobilenetv2, resnet18, resnext50, vgg16

log = logging.getLogger(__name__)

Builder = Callable[..., nn.Module]

GIVEN = ("classes", "channels")  # what every builder is told by the recipe's other sections
GROUP = "pleura.networks"
BUILT_IN: dict[str, Builder] = {
    "covidnet": CovidNet,
    "densenet121": densenet121,
    "densenet3d": DenseNet3d,
    "intermittent-cnn": IntermittentCnn,
    "mobilenetv2": mobilenetv2,
    "resnet18": resnet18,
    "resnext50": resnext50,
    "vgg16": vgg16,
}


def names() -> list[str]:
    """Every network that a recipe can name here, files apart."""
    return sorted({*BUILT_IN, *_installed()})


def build(recipe: Recipe, pretrained: Path | None = None, folder: Path | None = None) -> nn.Module:
    """The recipe's network; its frozen parameters need no gradient.

    Weights are drawn from torch's generator. With `network.pretrained` those come from that file which it has; without,
    frozen ones are drawn from a generator of their own, seeded by the recipe's digest: they do not travel, and yet have
    to be the same at every site.

    Args:
        pretrained: the checkpoint file; where not given, it is looked for in `folder`.
        folder: of a site's own files: checkpoints, and the Python files that `network.file` names.

    Raises:
        RecipeError: no such network, options that it does not have, a size that it does not take, a file that is
            missing, is another one, or does not fit, or layers that `training.dp_sgd` cannot do with.
    """
    builder = _builder(recipe, folder)
    network = _made(recipe, builder)
    dimensions = getattr(network, "dimensions", len(recipe.input.size))
    if dimensions != len(recipe.input.size):
        what = f"{recipe.network.name} takes {dimensions} sides, not {list(recipe.input.size)}"
        raise _refused(recipe, "input.size", what, f"give {dimensions} sides, or another network")
    try:
        freeze(network, recipe.network.frozen)
    except LayoutMismatch as error:
        raise _refused(recipe, "network.frozen", str(error), "correct the pattern") from error
    if recipe.network.pretrained or pretrained:
        _load(recipe, network, pretrained, folder)
    elif recipe.network.frozen:
        _draw_frozen(recipe, network, builder)
    if recipe.training.dp_sgd is not None:
        _check_private(recipe, network)
    return network


def _check_private(recipe: Recipe, network: nn.Module) -> None:
    from models.private_networks import refused_layers  # Opacus: most recipes do without

    if refused := refused_layers(network):
        shown = ", ".join(refused[:8]) + (f" and {len(refused) - 8} more" if len(refused) > 8 else "")
        what = f"{recipe.network.name} has layers that mix the cases of a batch: {shown}"
        fix = (
            "freeze them (network.frozen), so that they use the statistics they have; or take a network without batch "
            "norm. Opacus' ModuleValidator.fix puts group norm in its place, which is another network than the "
            "published one: see docs/training.md for how to make it a network of your own"
        )
        raise _refused(recipe, "training.dp_sgd", what, fix)


def _made(recipe: Recipe, builder: Builder) -> nn.Module:
    wanted = recipe.network
    try:
        return builder(classes=len(wanted.classes), channels=recipe.input.channels, **wanted.options)
    except (TypeError, ValueError) as error:
        fix = f"{wanted.name} has the options {_options(builder)}"
        raise _refused(recipe, "network.options", str(error), fix) from error


def _builder(recipe: Recipe, folder: Path | None) -> Builder:
    name = recipe.network.name
    if recipe.network.file is not None:
        return _builder_from_file(recipe, folder)
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name in (installed := _installed()):
        builder: Builder = installed[name].load()
        return builder
    fix = f"{nearest(name, names())}; installed here: {', '.join(names())}"
    raise _refused(recipe, "network.name", f"there is no network {name!r}", fix)


def _builder_from_file(recipe: Recipe, folder: Path | None) -> Builder:
    wanted = recipe.network
    fix = "put the file that the recipe's author gave you there, if you trust it with your machine"
    if folder is None:
        raise _refused(recipe, "network.file", f"there is no folder here to find {wanted.file} in", fix)
    try:
        return builder_from(folder, str(wanted.file), str(wanted.file_sha256), wanted.name)
    except OwnNetworkError as error:
        raise _refused(recipe, "network.file", str(error), fix) from error


def _installed() -> dict[str, EntryPoint]:
    """Networks of other packages. None can take the name of one of ours."""
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in BUILT_IN}


def _load(recipe: Recipe, network: nn.Module, path: Path | None, folder: Path | None) -> None:
    try:
        checkpoint = _checkpoint(recipe, path, folder)
        loaded = load_checkpoint(network, checkpoint)
    except CheckpointError as error:
        fix = "give the file that has the SHA-256 of network.pretrained, or correct the recipe"
        raise _refused(recipe, "network.pretrained", str(error), fix) from error
    log.debug("%s: %s", checkpoint.path.name, loaded)
    for name in _matching(loaded.fresh, recipe.network.frozen):
        what = f"{checkpoint.path} does not give {name}, which is frozen: {loaded.fresh[name]}"
        raise _refused(recipe, "network.frozen", what, "freeze only what the file has, as nothing else trains it")


def _checkpoint(recipe: Recipe, path: Path | None, folder: Path | None) -> Checkpoint:
    digest = recipe.network.pretrained
    if digest is None:
        raise CheckpointError(f"{path} was given, and the recipe names no such file")
    if path is None:
        if folder is None:
            raise CheckpointError("there is no folder here to find the file in")
        path = find_checkpoint(folder, digest)
    checkpoint = read_checkpoint(path)
    if checkpoint.digest != digest:
        raise CheckpointError(f"{path} has the SHA-256 {checkpoint.digest}, and the recipe names {digest}")
    return checkpoint


def _draw_frozen(recipe: Recipe, network: nn.Module, builder: Builder) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(recipe.digest[:15], 16))
        drawn = _made(recipe, builder).state_dict()
    own = network.state_dict()
    for name in _matching(own, recipe.network.frozen):
        own[name].copy_(drawn[name])


def _matching(tensors: Iterable[str], patterns: Iterable[str]) -> list[str]:
    patterns = list(patterns)
    return [name for name in tensors if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _options(builder: Builder) -> str:
    own = [name for name in inspect.signature(builder).parameters if name not in GIVEN]
    return ", ".join(own) or "none"


def _refused(recipe: Recipe, key: str, what: str, fix: str) -> RecipeError:
    return RecipeError(recipe.file, [Problem(key, what, fix)])
