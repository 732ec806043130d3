"""Which numbers travel, in which order: names, shapes and kinds, without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from crypto.canonical import digest
from crypto.errors import Malformed

Kind = Literal["parameter", "buffer"]
Counts = NDArray[np.int64]

_VALUES_LIMIT: Final = 1 << 36  # what the 65,536 parts that a manifest may list hold
_COUNTS_LIMIT: Final = 1 << 20
_SIDES_LIMIT: Final = 64  # as many as an array of numpy has
_FORM: Final = "a layout is {tensors: [{name, shape, kind}], counts: [{name, shape}]} and nothing else"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One shared tensor. `shape` may be empty (a scalar); values are float32 in C order."""

    name: str
    shape: tuple[int, ...]
    kind: Kind

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class CountField:
    """One named block of pooled counts, such as a confusion matrix (classes, classes). `shape` may be empty."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a contribution carries: the shared tensors in the order in which they lie in the flat vector,
    then the recipe's counts in the order in which they lie in the count lanes.

    Integer buffers (`num_batches_tracked`) and frozen or local parts are not in it.
    """

    tensors: tuple[Tensor, ...]
    counts: tuple[CountField, ...] = ()

    def __post_init__(self) -> None:
        names = [tensor.name for tensor in self.tensors]
        fields = [field.name for field in self.counts]
        if len(set(names)) != len(names) or len(set(fields)) != len(fields):
            raise Malformed("a layout names each tensor and each count once")
        shapes = [tensor.shape for tensor in self.tensors] + [field.shape for field in self.counts]
        if not self.tensors or any(min(shape, default=1) < 1 for shape in shapes):
            raise Malformed("a layout has at least one tensor and nothing empty in it")
        if max(map(len, shapes)) > _SIDES_LIMIT or self.size > _VALUES_LIMIT or self.counts_size > _COUNTS_LIMIT:
            raise Malformed(
                f"a layout has at most {_VALUES_LIMIT} values and {_COUNTS_LIMIT} counts, in shapes of at most "
                f"{_SIDES_LIMIT} sides; this one is larger"
            )

    @property
    def size(self) -> int:
        """Values in the flat vector."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def counts_size(self) -> int:
        """Numbers among the recipe's counts."""
        return sum(field.size for field in self.counts)

    @property
    def digest(self) -> str:
        return digest(self.to_json())

    def slices(self) -> Iterator[tuple[Tensor, slice]]:
        """Each tensor with its place in the flat vector."""
        start = 0
        for tensor in self.tensors:
            yield tensor, slice(start, start + tensor.size)
            start += tensor.size

    def to_json(self) -> dict[str, Any]:
        return {
            "tensors": [{"name": t.name, "shape": list(t.shape), "kind": t.kind} for t in self.tensors],
            "counts": [{"name": c.name, "shape": list(c.shape)} for c in self.counts],
        }

    @classmethod
    def from_json(cls, value: Any) -> Layout:
        """Inverse of `to_json`.

        Raises:
            Malformed: anything else than such an object.
        """
        try:
            tensors = tuple(Tensor(_name(e), _shape(e), _kind(e)) for e in value["tensors"])
            counts = tuple(CountField(_name(e), _shape(e)) for e in value["counts"])
        except (TypeError, KeyError, ValueError) as error:
            raise Malformed(_FORM) from error
        layout = cls(tensors, counts)
        if layout.to_json() != value:  # an unknown key, or an empty object for a scalar's shape
            raise Malformed(_FORM)
        return layout


def named_counts(counts: Iterable[int], fields: Sequence[CountField]) -> dict[str, Counts]:
    """Flat counts as int64 arrays by name, in their fields' shapes.

    Raises:
        Malformed: another number of counts than the fields have.
    """
    flat = np.fromiter(counts, np.int64)
    if flat.size != sum(field.size for field in fields):
        raise Malformed(f"{flat.size} counts do not fit a layout of {sum(field.size for field in fields)}")
    ends = np.cumsum([field.size for field in fields])
    return {
        field.name: flat[end - field.size : end].reshape(field.shape) for field, end in zip(fields, ends, strict=True)
    }


def _name(entry: dict[str, Any]) -> str:
    if not isinstance(entry["name"], str):
        raise TypeError(entry["name"])
    return entry["name"]


def _shape(entry: dict[str, Any]) -> tuple[int, ...]:
    if not all(isinstance(side, int) and not isinstance(side, bool) for side in entry["shape"]):
        raise TypeError(entry["shape"])
    return tuple(entry["shape"])


def _kind(entry: dict[str, Any]) -> Kind:
    if entry["kind"] == "parameter":
        return "parameter"
    if entry["kind"] == "buffer":
        return "buffer"
    raise ValueError(entry["kind"])
