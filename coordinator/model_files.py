"""Model files: safetensors with the layout and the recipe in their metadata. Nothing in them is ever executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open

from coordinator.errors import ModelRefused, NotFound
from coordinator.metrics import check_fields
from coordinator.store import audit, models
from coordinator.store.blobs import READ_BYTES, Blobs, model_key
from coordinator.store.database import Store
from coordinator.store.tables import Model
from crypto.canonical import digest, parse
from crypto.errors import Malformed
from crypto.layout import Layout, Tensor
from crypto.model_file import MODEL_FORMAT

_LENGTH_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Description:
    """What a model file says of itself. The recipe is the sites' business, its `federation` part apart."""

    layout: Layout
    recipe: dict[str, Any]


def check(path: Path) -> Description:
    """The description of a model file whose tensors are exactly its layout's, float32 and finite.

    Raises:
        ModelRefused: naming the first thing that is wrong.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            description = _describe(file.metadata() or {})
            _check_names(set(file.keys()), description.layout)
            for tensor in description.layout.tensors:
                _check_tensor(tensor, file)
    except SafetensorError as error:
        raise ModelRefused(f"This is no safetensors file of float32 tensors: {error}.") from error
    return description


def _describe(metadata: Mapping[str, str]) -> Description:
    if metadata.get("format") != MODEL_FORMAT:
        raise ModelRefused(
            f"The file does not say it is a {MODEL_FORMAT}. Write it with `pleura-participant model new RECIPE`."
        )
    try:
        layout, recipe = parse(metadata["layout"].encode()), parse(metadata["recipe"].encode())
        if not isinstance(recipe, dict) or not isinstance(recipe.get("federation", {}), dict):
            raise ModelRefused("The recipe in the file's metadata is no JSON object.")
        found = Layout.from_json(layout)
        check_fields(found.counts)
        return Description(found, recipe)
    except KeyError as error:
        raise ModelRefused(f"The file's metadata lack the {error.args[0]}.") from error
    except (Malformed, ValueError) as error:
        raise ModelRefused(f"The layout or the recipe in the file's metadata is malformed: {error}.") from error


def _check_names(names: set[str], layout: Layout) -> None:
    expected = {tensor.name for tensor in layout.tensors}
    if names != expected:
        missing, extra = sorted(expected - names), sorted(names - expected)
        raise ModelRefused(f"The tensors are not the layout's: missing {missing[:5]}, not in it {extra[:5]}.")


def _check_tensor(tensor: Tensor, file: Any) -> None:
    """Its type and shape come first: a type that numpy lacks cannot be read, and fails in several ways."""
    header = file.get_slice(tensor.name)
    if header.get_dtype() != "F32" or tuple(header.get_shape()) != tensor.shape:
        raise ModelRefused(
            f"The tensor {tensor.name} is {header.get_dtype()} {header.get_shape()}; the layout says F32 "
            f"{list(tensor.shape)}."
        )
    if not np.isfinite(file.get_tensor(tensor.name)).all():
        raise ModelRefused(f"The tensor {tensor.name} holds a NaN or an infinity.")


def take(store: Store, blobs: Blobs, path: Path, actor: str, now: float) -> Model:
    """Check a model file, put it into the blob store and register it. The same file again is the same model.

    Raises:
        ModelRefused: as `check`.
        DiskFull: nothing was kept.
    """
    description = check(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    stored = blobs.put_stream(model_key(sha256), _chunks(path))
    recipe_digest = digest(description.recipe)

    def register(session: Any) -> Model:
        known = models.find(session, sha256)
        if known is not None:
            return known
        audit.append(session, now, actor, "model.uploaded", {"model": sha256, "bytes": stored.size})
        return models.register(session, sha256, stored.size, description.layout.digest, recipe_digest, now, None)

    return store.run("register model", register)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            yield chunk


def stored(blobs: Blobs, sha256: str) -> Description:
    """The description of a model that was taken before.

    Raises:
        NotFound: its file is not in the blob store.
    """
    key = model_key(sha256)
    try:
        length = int.from_bytes(blobs.read(key, 0, _LENGTH_BYTES), "little")
        header = json.loads(blobs.read(key, _LENGTH_BYTES, _LENGTH_BYTES + length))
    except FileNotFoundError:
        raise missing(sha256) from None
    return _describe(header["__metadata__"])


def missing(sha256: str) -> NotFound:
    """The refusal where a model's row is here and its file is not."""
    return NotFound(
        f"The file of the model {sha256[:12]}... is missing from the blob store. The operator has to restore it from a "
        "backup; every member of its study has a copy, too."
    )
