"""What the fuzzer once found, each by itself. `tests/crypto/test_wire.py` has those that it found in messages."""

from __future__ import annotations

import json

import fuzz_files
import pytest
from fuzz_federation import LAYOUT

from coordinator import model_files
from coordinator.errors import ModelRefused
from crypto.errors import Malformed
from crypto.layout import Layout


def model_of(dtype: str, size: int, shape: list[int]) -> bytes:
    """A model file whose scalar has another type or shape."""
    data = fuzz_files._model("pleura/model/v1")
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    place = 0
    for name, entry in header.items():
        if name == "scale":
            entry |= {"dtype": dtype, "shape": shape}
        if name != "__metadata__":
            length = size if name == "scale" else entry["data_offsets"][1] - entry["data_offsets"][0]
            entry["data_offsets"] = [place, place + length]
            place += length
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + bytes(place)


NO_FLOATS = [("F8_E4M3", 1, []), ("F8_E5M2", 1, []), ("BF16", 2, []), ("F64", 8, []), ("F32", 4, [1] * 100)]


@pytest.mark.parametrize(("dtype", "size", "shape"), NO_FLOATS)
def test_a_tensor_that_numpy_cannot_hold(dtype, size, shape, tmp_path):
    """Reading it raised what no caller expects, and the coordinator answered 500."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(model_of("F32", 4, []))
    assert model_files.check(file).layout == LAYOUT
    file.write_bytes(model_of(dtype, size, shape))
    with pytest.raises(ModelRefused, match="The tensor scale is"):
        model_files.check(file)


VAST = [("tensors", [2**36 + 1]), ("tensors", [2**20, 2**20]), ("tensors", [1] * 65), ("counts", [2**20 + 1])]


@pytest.mark.parametrize(("where", "shape"), VAST)
def test_a_layout_without_end(where, shape):
    """A few bytes of layout had a reader list billions of parts, or ask for more memory than there is."""
    fields = {"name": "a", "shape": shape}
    small = {"tensors": [{"name": "a", "shape": [2], "kind": "buffer"}], "counts": []}
    with pytest.raises(Malformed, match="larger"):
        Layout.from_json(small | {where: [fields | ({"kind": "buffer"} if where == "tensors" else {})]})


def test_the_largest_layout():
    tensors = [{"name": "a", "shape": [2**36], "kind": "buffer"}]
    layout = Layout.from_json({"tensors": tensors, "counts": [{"name": "c", "shape": [2**20]}]})
    assert (layout.size, layout.counts_size) == (2**36, 2**20)
    deep = [{"name": "a", "shape": [1] * 64, "kind": "buffer"}]
    assert Layout.from_json({"tensors": deep, "counts": []}).size == 1
