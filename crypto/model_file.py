"""The file of the model that a round makes: the same bytes wherever it is made from the same mean.

A model is named by its file's SHA-256, so whoever derives it (the coordinator, or each member of a study released to
its members) has to write it alike. Nothing in such a file is ever executed.
"""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from crypto.canonical import canonical
from crypto.errors import Malformed
from crypto.layout import Layout

MODEL_FORMAT: Final = "pleura/model/v1"
_LENGTH_BYTES: Final = 8


def next_model(
    base: bytes, layout: Layout, mean: NDArray[np.float32], recipe: dict[str, Any], study: UUID, round_number: int
) -> bytes:
    """The base model plus the mean update, as a file that says which study and round made it.

    Args:
        base: the file of the model that updates are relative to.
        mean: float32 [layout.size]. The sum takes its place, so that a model is not in memory once more than needed.
        recipe: the study's, passed on unread.

    Raises:
        Malformed: `base` is no model of this layout.
    """
    tensors = {}
    former = _tensors(base, layout)
    for tensor, place in layout.slices():
        mean[place] += former.pop(tensor.name).reshape(-1)
        tensors[tensor.name] = mean[place].reshape(tensor.shape)
    metadata = {
        "format": MODEL_FORMAT,
        "layout": canonical(layout.to_json()).decode(),
        "recipe": canonical(recipe).decode(),
        "study": str(study),
        "round": str(round_number),
    }
    return with_sorted_metadata(save(tensors, metadata))


def _tensors(data: bytes, layout: Layout) -> dict[str, NDArray[np.float32]]:
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        # The last four: types and shapes that numpy does not have.
        raise Malformed("the base model is no safetensors file of float32 tensors") from error
    for tensor in layout.tensors:
        values = tensors.get(tensor.name)
        if values is None or values.shape != tensor.shape or values.dtype != np.float32:
            raise Malformed(f"the base model lacks {tensor.name} as float32 {list(tensor.shape)}")
    return tensors


def with_sorted_metadata(data: bytes) -> bytes:
    """The same file in one spelling: safetensors writes metadata in random order, so a second one would differ."""
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight, as the format wants it
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + memoryview(data)[_LENGTH_BYTES + length :]
