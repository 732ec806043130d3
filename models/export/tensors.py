"""Whole networks as safetensors: every tensor, those that no study shares included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from crypto.canonical import parse
from crypto.errors import Malformed
from crypto.model_file import with_sorted_metadata
from models.export.description import EXPORT_FORMAT
from models.flatten import LayoutMismatch
from models.recipe import Recipe
from models.recipe_problems import RecipeError
from models.registry import build


def write_network(path: Path, network: nn.Module, described: Mapping[str, str]) -> None:
    """The network's state_dict under its own names, `described` as metadata.

    One network gives one file, byte by byte.
    """
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    path.write_bytes(with_sorted_metadata(save(tensors, dict(described))))


def read_network(path: Path, folder: Path | None = None) -> nn.Module:
    """The network of a file that `write_network` wrote, ready to predict. Nothing in the file is executed.

    Args:
        folder: of the Python file, where the recipe names a researcher's own network.

    Raises:
        LayoutMismatch: no such file, or one whose tensors are not its network's.
        RecipeError: the network cannot be built here.
        FileNotFoundError: there is none.
    """
    recipe = read_recipe(path)
    tensors = load_file(path)
    with torch.random.fork_rng(devices=[]):  # weights are drawn, and then all replaced
        network = build(recipe.overridden({"network.pretrained": None}), folder=folder)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise LayoutMismatch(f"{path} does not hold the tensors of its network: {error}") from error
    return network.eval()


def read_recipe(path: Path) -> Recipe:
    """The recipe in the metadata of such a file. Raises as `read_network`."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise LayoutMismatch(f"{path} is no safetensors file, or it was cut short: {error}") from error
    if metadata.get("format") != EXPORT_FORMAT:
        raise LayoutMismatch(f"{path} is no exported network: its format is {metadata.get('format')!r}")
    try:
        return Recipe.from_json(parse(metadata["recipe"].encode()), str(path))
    except (KeyError, Malformed, RecipeError) as error:
        raise LayoutMismatch(f"{path} has no recipe that can be read: {error}") from error
