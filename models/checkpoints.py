"""Pretrained weights from a torch file (only tensors are unpickled) or a safetensors file, fitted to a network."""

from __future__ import annotations

import codecs
import hashlib
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.checkpoint_names import before_a_sigmoid, spelled_as_here, wrapper

_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
_NAMED = 5  # names shown of a longer list


class CheckpointError(ValueError):
    """A file that holds no weights, or none that fit."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file's tensors by the names that it gives them. digest: the file's SHA-256, as recipes name it."""

    path: Path
    digest: str
    tensors: Mapping[str, Tensor] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a file's tensors.

    taken: the network's name of each, with the file's. fresh: what the network kept of its own, and why (what is no
    floating-point number apart: old files lack the batch counts). unused: what else the file has, by today's names.
    summed: the convolution whose three input channels became one.
    """

    taken: Mapping[str, str]
    fresh: Mapping[str, str]
    unused: tuple[str, ...]
    summed: str | None = None

    def __str__(self) -> str:
        lines = [f"{len(self.taken)} tensors taken"]
        if self.summed:
            lines.append(f"{self.summed}: its three input channels were added up, as the images here have one")
        lines += [f"{name} is left fresh: {why}" for name, why in self.fresh.items()]
        if self.unused:
            lines.append(f"{len(self.unused)} in the file are of no use here: {_some(self.unused)}")
        return "\n".join(lines)


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a torch or safetensors file, whatever it is called.

    Raises:
        CheckpointError: no such file, another format, pickled classes, or no tensors in it.
    """
    try:
        digest = digest_of(path)
        with path.open("rb") as file:
            beginning = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; give the path of a checkpoint file") from error
    # A safetensors file begins with the length of a JSON object and that object.
    tensors = dict(_tensors(_safetensors(path) if beginning[8:] == b"{" else _torch(path)))
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors by name; give a file with the network's state_dict")
    return Checkpoint(path, digest, tensors)


def load_checkpoint(network: nn.Module, checkpoint: Checkpoint) -> Loaded:
    """Copies the file's values into the network wherever names agree, as far as `models.checkpoint_names` knows them.

    A head (the network's last layer) of another size is left fresh. A first convolution of three input channels is
    added up over them where the network has one: on a grey image, which repeats its values in all three, it does the
    same. Weights that were trained with a mean and a deviation of their own for each channel see such an image a little
    shifted, as recipes have one of each. The values become the network's own type.

    Raises:
        CheckpointError: nothing of the network is in the file, another tensor than the head has another shape (each is
            named), or a value is not finite; the network is unchanged.
    """
    own = network.state_dict()
    tensors = spelled_as_here(checkpoint.tensors)
    sources = _sources(own, _head(network), tensors)
    if not sources:
        what = f"it has {_some(tuple(tensors))}; the network has {_some(tuple(own))}"
        raise CheckpointError(f"{checkpoint.path} has none of this network's tensors: {what}")
    fitted, fresh, summed = _fitted(checkpoint.path, own, _head(network), sources, tensors)
    for name, values in fitted.items():
        own[name].copy_(values)
    missing = {name: "it is not in the file" for name in own if name not in sources and own[name].is_floating_point()}
    taken = {name: sources[name] for name in fitted}
    unused = tuple(sorted(set(tensors) - set(sources.values())))
    return Loaded(taken, fresh | missing, unused, summed)


def find_checkpoint(folder: Path, digest: str) -> Path:
    """The file in `folder` that has this SHA-256 (hex), whatever it is called.

    Raises:
        CheckpointError: none has (with what there is instead), or a file cannot be read.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    try:
        found = {digest_of(path): path for path in files}
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from error
    if digest in found:
        return found[digest]
    there = ", ".join(f"{path.name} ({has[:12]}...)" for has, path in found.items()) or "no file"
    raise CheckpointError(
        f"no file in {folder} has the SHA-256 {digest}; there is {there}. "
        "Ask for the file where the recipe comes from, and put it there under any name"
    )


def digest_of(path: Path) -> str:
    """A file's SHA-256 in hex; of an unchanged file it is computed once.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _digest_of(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest_of(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file, or it was cut short: {error}") from error


def _torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds other things than tensors, such as pickled Python objects; Pleura runs nothing of a file. "
            "Where the file comes from, save the weights alone: torch.save(model.state_dict(), FILE)"
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{path} is no checkpoint that can be read (torch or safetensors), or it was cut short; its formats from "
            "before torch 1.6 may have to be saved anew with a later torch"
        ) from error


def _numbers() -> list[Any]:
    """What a pickled NumPy number consists of: many files keep their best loss as one, beside the weights."""
    scalar = np.float64(0).__reduce__()[0]  # its module was renamed in NumPy 2
    types: list[Any] = [np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32)), codecs.encode]
    return [*types, scalar, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]


def _tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """The state_dict in a file, however deep it is wrapped."""
    while isinstance(content, Mapping):
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            yield from ((str(name), value) for name, value in content.items() if isinstance(value, Tensor))
            return
        content = inner[0]


def _head(network: nn.Module) -> str:
    """The name of the last layer: the last module that has parameters itself."""
    layers = [
        name for name, module in network.named_modules() if next(module.parameters(recurse=False), None) is not None
    ]
    return layers[-1] if layers else ""


def _sources(own: Mapping[str, Tensor], head: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The file's name for each tensor of the network that it has."""
    before = wrapper(own.keys(), tensors)
    sources = {name: before + name for name in own if before + name in tensors}
    for name in own:
        wrapped = before + before_a_sigmoid(name)
        if name.rpartition(".")[0] == head and name not in sources and wrapped in tensors:
            sources[name] = wrapped
    return sources


def _fitted(
    path: Path, own: Mapping[str, Tensor], head: str, sources: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str], str | None]:
    """Values in the network's shapes; why others stay fresh; the convolution that was summed.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    fitted: dict[str, Tensor] = {}
    fresh: dict[str, str] = {}
    wrong: list[str] = []
    summed = None
    first = next(iter(own))
    for name, source in sources.items():
        here, there = own[name], tensors[source]
        if name == first and there.ndim == here.ndim > 2 and (there.shape[1], here.shape[1]) == (3, 1):
            there, summed = there.sum(dim=1, keepdim=True, dtype=torch.float32), name
        if not there.isfinite().all():
            raise CheckpointError(f"{path} is of no use: {source} has values that are not finite numbers")
        if there.shape == here.shape:
            fitted[name] = there
        elif name.rpartition(".")[0] == head:
            fresh[name] = f"it has the shape {list(there.shape)} in the file, and {list(here.shape)} here"
        else:
            wrong.append(f"{source} {list(there.shape)} for {list(here.shape)}")
    if wrong:
        raise CheckpointError(f"{path} is of another network; shapes in the file, and here: {_some(wrong)}")
    if not fitted:
        raise CheckpointError(f"{path} has nothing but a head of another size: {_some(tuple(sources.values()))}")
    return fitted, fresh, summed


def _some(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
