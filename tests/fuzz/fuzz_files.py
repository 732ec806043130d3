"""Model files: what the coordinator is given, and what a site gets from it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from fuzz_federation import LAYOUT, STUDY, federation
from fuzz_format import Format
from fuzz_mutations import spoil_json, spoil_safetensors
from safetensors.numpy import save

from coordinator import model_files
from coordinator.errors import ModelRefused
from crypto.canonical import canonical, parse, sha256
from crypto.errors import Malformed
from crypto.layout import Layout
from crypto.model_file import next_model
from crypto.schemes import SCHEMES
from models.flatten import LayoutMismatch, read_model
from models.recipe import load_recipe
from participant.model_store import ModelStore
from participant.policy import Refused

_PARTS: Final = 1 << 16 | 1 << 10  # of 65,536 as many as the largest layout has, and some for its counts
_FOLDER: Final = tempfile.TemporaryDirectory(prefix="pleura-fuzz-")


def formats() -> Iterator[Format]:
    others = (_model("pleura/model/v1"), _model("pleura/model/v1", float64=np.zeros(2)), _model("other"))
    yield _file("model file, taken by the coordinator", others, _check, ModelRefused)
    yield _file("model file, fetched by a site", others, _fetch, Refused)
    yield _file("model file, read", others, _read, LayoutMismatch)
    yield _file("model file, that a round adds to", others, _add_to, Malformed)
    layout = canonical(LAYOUT.to_json())
    yield Format("a study's layout, and its model", (layout,), _fetch_under, (Malformed, Refused), spoil_json, 20)


def _file(name: str, others: tuple[bytes, ...], read: Any, refusal: type[Exception]) -> Format:
    return Format(name, others[:1], read, (refusal,), lambda data, tape, _: spoil_safetensors(data, tape, others), 20)


def _model(form: str, **more: Any) -> bytes:
    texts = {"format": form, "layout": canonical(LAYOUT.to_json()).decode()}
    texts["recipe"] = canonical(load_recipe("ucadi").to_json()).decode()
    return save({tensor.name: np.full(tensor.shape, 0.5, np.float32) for tensor in LAYOUT.tensors} | more, texts)


def _written(data: bytes) -> Path:
    file = Path(_FOLDER.name) / "model.safetensors"
    file.write_bytes(data)
    return file


def _check(data: bytes) -> None:
    description = model_files.check(_written(data))
    assert description.layout.size > 0


def _read(data: bytes) -> None:
    saved = read_model(_written(data))
    assert saved.vector.size == saved.layout.size


def _add_to(data: bytes) -> None:
    mean = np.zeros(LAYOUT.size, np.float32)
    made = next_model(data, LAYOUT, mean.copy(), {}, STUDY, 1)
    assert next_model(made, LAYOUT, mean, {}, STUDY, 1) == made, "what was written is not read again"


def _fetch(data: bytes, layout: Layout = LAYOUT) -> None:
    client: Any = SimpleNamespace(download_model=lambda _, file: file.write_bytes(data))
    store = ModelStore(Path(_FOLDER.name))
    try:
        vector = store.vector(client, sha256(data), layout)
    finally:
        (Path(_FOLDER.name) / f"{sha256(data)}.safetensors").unlink(missing_ok=True)
    assert np.isfinite(vector).all()
    assert vector.size == layout.size


def _fetch_under(layout: bytes) -> None:
    """What a site computes under a layout that the coordinator chose."""
    plan = federation().plan
    chosen = Layout.from_json(parse(layout))
    for ours in SCHEMES.values():
        assert len(ours.part_sizes(plan, chosen)) <= _PARTS
    _fetch(_GOOD, chosen)


_GOOD: Final = _model("pleura/model/v1")
