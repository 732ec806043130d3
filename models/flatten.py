"""Between a network's state_dict and one flat float32 vector, and models as files (safetensors, nothing is unpickled).

What is shared: parameters and float buffers, in state_dict order. What stays home: integer buffers (batch counts,
schedule steps), what is frozen and what is local. With SCAFFOLD (Karimireddy et al. 2020) the shared control variates
lie behind the network's own tensors, one "control/NAME" for each shared parameter NAME; they are no part of a network.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import nn

from crypto.canonical import canonical, parse
from crypto.errors import Malformed
from crypto.layout import CountField, Layout, Tensor
from crypto.model_file import with_sorted_metadata
from models.pooled import count_fields
from models.recipe import Recipe
from models.recipe_problems import RecipeError

FORMAT = "pleura/model/v1"
CONTROL: Final = "control/"
Vector = NDArray[np.float32]


class LayoutMismatch(ValueError):
    """A vector, network or file that is not what the layout says."""


def freeze(model: nn.Module, patterns: Iterable[str]) -> None:
    """Parameters whose names match need no gradient any more.

    Raises:
        LayoutMismatch: a pattern that matches nothing, as its author meant something.
    """
    patterns = list(patterns)
    _check_patterns(model, patterns)
    for name, parameter in model.named_parameters():
        if _matches(name, patterns):
            parameter.requires_grad_(False)


def layout_of(
    model: nn.Module,
    frozen: Sequence[str] = (),
    counts: tuple[CountField, ...] = (),
    *,
    local: Sequence[str] = (),
    scaffold: bool = False,
) -> Layout:
    """What of `model` travels. `frozen`, `local`: shell patterns (`features.*`) of names that do not.

    Raises:
        LayoutMismatch: a pattern that matches nothing, or a tensor that would be both frozen and local.
    """
    _check_patterns(model, [*frozen, *local])
    _check_apart(model, frozen, local)
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tensors = [
        Tensor(name, tuple(value.shape), "parameter" if name in parameters else "buffer")
        for name, value in model.state_dict().items()
        if value.is_floating_point() and not _matches(name, (*frozen, *local))
    ]
    if scaffold:
        tensors += [Tensor(CONTROL + t.name, t.shape, t.kind) for t in tensors if t.kind == "parameter"]
    return Layout(tuple(tensors), counts)


def study_layout(model: nn.Module, recipe: Recipe) -> Layout:
    """What of the recipe's network travels in its studies, the counts of its evaluation included.

    Raises:
        LayoutMismatch: as `layout_of`.
    """
    network = recipe.network
    counts = recipe_counts(recipe)
    return layout_of(model, network.frozen, counts, local=network.local, scaffold=recipe.federation.scaffold)


def recipe_counts(recipe: Recipe) -> tuple[CountField, ...]:
    """What the sites count in the recipe's studies; nothing where it wants no figures."""
    evaluation = recipe.evaluation
    return count_fields(len(recipe.network.classes), evaluation.bins) if evaluation.metrics == "pooled" else ()


def controls(layout: Layout) -> Iterator[tuple[str, slice]]:
    """The name of each parameter that has a control variate, and the variate's place in the flat vector."""
    for tensor, place in layout.slices():
        if tensor.name.startswith(CONTROL):
            yield tensor.name.removeprefix(CONTROL), place


def to_vector(model: nn.Module, layout: Layout) -> Vector:
    """The shared values as one vector (layout.size,), each tensor in C order; control variates are 0, as at the start.

    Raises:
        LayoutMismatch: the model lacks a tensor or has it in another shape.
    """
    vector = np.zeros(layout.size, np.float32)
    for value, place in _shared(model, layout):
        vector[place] = value.to("cpu", torch.float32).reshape(-1).numpy()
    return vector


def load_vector(model: nn.Module, layout: Layout, vector: Vector) -> None:
    """Puts a vector's values into the model; what is not in the layout stays as it is, control variates go nowhere.

    A running variance that an opened mean's error carried below 0 is 0: its root would be no number.

    Raises:
        LayoutMismatch: another type or size, a value that is not finite, or another network; the model is unchanged.
    """
    check_vector(layout, vector)
    for value, place in _shared(model, layout):
        value.copy_(torch.from_numpy(vector[place].copy()).reshape(value.shape))
    for module in model.modules():
        if isinstance(variance := getattr(module, "running_var", None), torch.Tensor):
            variance.clamp_(min=0)


def check_vector(layout: Layout, vector: Vector) -> None:
    """Raise unless the vector is float32, has the layout's size, and every value is finite.

    Raises:
        LayoutMismatch: naming the first tensor with a value that is not finite.
    """
    if vector.shape != (layout.size,) or vector.dtype != np.float32:
        raise LayoutMismatch(
            f"the layout wants {layout.size} float32 values, not {vector.dtype} of shape {vector.shape}"
        )
    if np.isfinite(vector).all():
        return
    bad = next(tensor.name for tensor, place in layout.slices() if not np.isfinite(vector[place]).all())
    raise LayoutMismatch(
        f"{bad} has values that are not finite numbers; the training diverged or the data has such values"
    )


def local_state(model: nn.Module, layout: Layout, frozen: Sequence[str] = ()) -> dict[str, torch.Tensor]:
    """Copies of what is neither shared nor frozen: what a site keeps from round to round. For `load_local_state`."""
    shared = {tensor.name for tensor in layout.tensors}
    return {
        name: value.detach().clone()
        for name, value in model.state_dict().items()
        if name not in shared and not _matches(name, frozen)
    }


def load_local_state(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Puts back what `local_state` took.

    Raises:
        LayoutMismatch: it is of another network.
    """
    own = model.state_dict()
    for name, value in state.items():
        if name not in own or own[name].shape != value.shape:
            raise LayoutMismatch(f"the kept state has {name} of shape {tuple(value.shape)}, this network has not")
        own[name].copy_(value)


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A model file's content."""

    vector: Vector
    layout: Layout
    recipe: Recipe


def save_model(path: Path, model: nn.Module | Vector, layout: Layout, recipe: Recipe) -> None:
    """Writes the shared tensors by name, with layout and recipe as canonical JSON beside them; whole or not at all.

    One model gives one file, byte by byte, so that its digest names it.

    Raises:
        LayoutMismatch: a model or vector that is not of this layout, or not finite.
    """
    vector = to_vector(model, layout) if isinstance(model, nn.Module) else model
    check_vector(layout, vector)
    tensors = {t.name: vector[place].reshape(t.shape) for t, place in layout.slices()}
    metadata = {
        "format": FORMAT,
        "layout": canonical(layout.to_json()).decode(),
        "recipe": canonical(recipe.to_json()).decode(),
    }
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(with_sorted_metadata(save(tensors, metadata)))
    unfinished.replace(path)


def read_model(path: Path) -> SavedModel:
    """Inverse of `save_model`.

    Raises:
        LayoutMismatch: no such model file, or one whose tensors are not those of its layout.
        FileNotFoundError: there is none.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            layout, recipe = _described(path, file.metadata() or {})
            found = {name: _header(file.get_slice(name)) for name in file.keys()}  # noqa: SIM118  (no iterable itself)
            if found != {tensor.name: ("F32", tensor.shape) for tensor in layout.tensors}:
                raise LayoutMismatch(f"{path} does not hold the tensors that its layout names")
            vector = np.concatenate([file.get_tensor(tensor.name).reshape(-1) for tensor in layout.tensors])
    except SafetensorError as error:
        raise LayoutMismatch(f"{path} is no safetensors file, or it was cut short: {error}") from error
    check_vector(layout, vector)
    return SavedModel(vector, layout, recipe)


def _described(path: Path, metadata: dict[str, str]) -> tuple[Layout, Recipe]:
    if metadata.get("format") != FORMAT:
        raise LayoutMismatch(
            f"{path} is no model of Pleura's: its format is {metadata.get('format')!r}, not {FORMAT!r}"
        )
    try:
        layout = Layout.from_json(parse(metadata["layout"].encode()))
        return layout, Recipe.from_json(parse(metadata["recipe"].encode()), str(path))
    except (KeyError, Malformed, RecipeError) as error:
        raise LayoutMismatch(f"{path} has no layout or recipe that can be read: {error}") from error


def _header(tensor: Any) -> tuple[str, tuple[int, ...]]:
    """Type and shape, unread: a type that numpy lacks cannot be read."""
    return tensor.get_dtype(), tuple(tensor.get_shape())


def _shared(model: nn.Module, layout: Layout) -> list[tuple[torch.Tensor, slice]]:
    """The model's own tensors of the layout, detached, each with its place: writing to them writes to the model."""
    own = model.state_dict()
    found = []
    for tensor, place in layout.slices():
        if tensor.name.startswith(CONTROL):
            continue
        if tensor.name not in own:
            raise LayoutMismatch(f"this network has no tensor {tensor.name}; the layout is another network's")
        if tuple(own[tensor.name].shape) != tensor.shape:
            raise LayoutMismatch(
                f"{tensor.name} has shape {tuple(own[tensor.name].shape)} here, {tensor.shape} in the layout"
            )
        found.append((own[tensor.name], place))
    return found


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_patterns(model: nn.Module, patterns: Iterable[str]) -> None:
    names = list(model.state_dict())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise LayoutMismatch(f"no tensor's name matches the pattern {pattern!r}; names are such as {names[0]!r}")


def _check_apart(model: nn.Module, frozen: Sequence[str], local: Sequence[str]) -> None:
    for name in model.state_dict():
        if _matches(name, frozen) and _matches(name, local):
            raise LayoutMismatch(f"{name} cannot be frozen and local: what is local is trained; correct a pattern")
