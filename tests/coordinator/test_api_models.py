"""Model files: what is taken, what is refused, downloads in pieces."""

from __future__ import annotations

import json
import pickle
import struct

import numpy as np
import pytest

from coordinator.store.blobs import model_key
from crypto.canonical import sha256
from crypto.layout import CountField, Layout, Tensor


@pytest.fixture
def upload(world):
    return lambda data: world.operate("POST", "/v1/models", content=data)


def test_upload(world, upload, make_model) -> None:
    data = make_model()
    answer = upload(data)
    assert answer.status_code == 201
    assert answer.json()["model"] == sha256(data)
    assert upload(data).json() == answer.json(), "the same file is the same model"
    actions = [row["action"] for row in world.operate("GET", "/v1/audit").json()]
    assert actions.count("model.uploaded") == 1


SPOILED = {
    "nan": {"weight": np.full((3, 5), np.nan, np.float32)},
    "infinity": {"mean": np.array([0, np.inf, 0], np.float32)},
    "shape": {"weight": np.zeros((5, 3), np.float32)},
    "float64": {"weight": np.zeros((3, 5))},
    "integers": {"weight": np.zeros((3, 5), np.int64)},
    "extra": {"bias": np.zeros(3, np.float32)},
    "no format": {"metadata": {"format": "other"}},
    "no layout": {"metadata": {"layout": "{}"}},
    "not canonical": {"metadata": {"recipe": '{"b": 1, "a": 2}'}},
    "recipe is a list": {"metadata": {"recipe": "[]"}},
}


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_models(world, upload, make_model, refused, name: str) -> None:
    refused(upload(make_model(**SPOILED[name])), 422, "model-refused")
    assert not list(world.services.settings.incoming.iterdir())
    assert not (world.services.settings.blobs / "models").exists()


COUNTS = {
    "confusion is no square": [("confusion", [2, 3]), ("scores", [2, 2, 8])],
    "classes differ": [("confusion", [2, 2]), ("scores", [3, 2, 8])],
    "scores without the others": [("confusion", [2, 2]), ("scores", [2, 8])],
    "cases of each class": [("cases", [2])],
    "confusion is one number": [("confusion", [])],
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_that_no_page_could_read(upload, make_model, refused, name: str) -> None:
    counts = tuple(CountField(field, tuple(shape)) for field, shape in COUNTS[name])
    layout = Layout((Tensor("weight", (3, 5), "parameter"),), counts)
    document = refused(upload(make_model(layout)), 422, "model-refused")
    assert "have the shape" in document["detail"]


def test_a_missing_tensor(upload, make_model, refused) -> None:
    data = make_model()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header["other"] = header.pop("mean")
    text = json.dumps(header).encode()
    document = refused(upload(struct.pack("<Q", len(text)) + text + data[8 + length :]), 422, "model-refused")
    assert "missing ['mean'], not in it ['other']" in document["detail"]


@pytest.mark.parametrize("data", [b"", b"\0" * 100, pickle.dumps({"weight": [1.0]})], ids=["empty", "zeros", "pickle"])
def test_what_is_no_safetensors_file(upload, refused, data: bytes) -> None:
    refused(upload(data), 422, "model-refused")


def test_a_truncated_file(upload, make_model, refused) -> None:
    refused(upload(make_model()[:-4]), 422, "model-refused")


def test_the_size_limit(new_world, make_model, refused) -> None:
    world, data = new_world(max_model_bytes=200), make_model()
    refused(world.operate("POST", "/v1/models", content=data), 413, "too-large")

    async def unannounced():
        for start in range(0, len(data), 50):
            yield data[start : start + 50]

    refused(world.operate("POST", "/v1/models", content=unannounced()), 413, "too-large")
    assert not list(world.services.settings.incoming.iterdir())


@pytest.fixture
def model(world) -> bytes:
    world.create_study()
    return world.model


@pytest.fixture
def fetch(world, model):
    return lambda method="GET", **headers: world.call(
        method,
        f"/v1/models/{sha256(model)}",
        headers={"Authorization": f"Bearer {world.operator}", **{k.replace("_", "-"): v for k, v in headers.items()}},
    )


def test_download(fetch, model) -> None:
    answer = fetch()
    assert answer.content == model
    assert answer.headers["content-length"] == str(len(model))
    assert answer.headers["etag"] == f'"{sha256(model)}"'
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "piece"),
    [("bytes=0-9", slice(0, 10)), ("bytes=100-", slice(100, None)), ("bytes=-7", slice(-7, None)),
     ("bytes=5-999999", slice(5, None)), ("bytes=-999999", slice(None))],
)  # fmt: skip
def test_ranges(fetch, model, asked: str, piece: slice) -> None:
    answer = fetch(Range=asked)
    start, stop, _ = piece.indices(len(model))
    assert answer.status_code == 206
    assert answer.content == model[piece]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(model)}"
    assert answer.headers["content-length"] == str(stop - start)


def test_ranges_outside(fetch, model, refused) -> None:
    for asked in (f"bytes={len(model)}-", "bytes=9-3", "bytes=-0"):
        answer = fetch(Range=asked)
        refused(answer, 416, "range-unsatisfiable")
        assert answer.headers["content-range"] == f"bytes */{len(model)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "lines=1-2", "bytes=-", "nonsense"])
def test_other_ranges_get_the_whole(fetch, model, asked: str) -> None:
    answer = fetch(Range=asked)
    assert (answer.status_code, answer.content) == (200, model)


def test_digests(world, fetch, model) -> None:
    digest = world.digest_header(model)["Content-Digest"]
    whole, piece = fetch(), fetch(Range="bytes=0-9")
    assert (whole.headers["content-digest"], whole.headers["repr-digest"]) == (digest, digest)
    assert piece.headers["repr-digest"] == digest
    assert "content-digest" not in piece.headers, "it would be the piece's own"


def test_head_tells_the_same_without_the_file(world, fetch, model) -> None:
    told = fetch(method="HEAD")
    assert (told.status_code, told.content) == (200, b"")
    for name in ("content-length", "etag", "accept-ranges", "repr-digest", "content-type"):
        assert told.headers[name] == fetch().headers[name]
    assert fetch(method="HEAD", Range="bytes=0-9").status_code == 200, "a range is GET's alone"
    assert fetch(method="HEAD", If_None_Match=told.headers["etag"]).status_code == 304
    assert world.operate("HEAD", f"/v1/models/{'ab' * 32}").status_code == 404
    assert world.call("HEAD", f"/v1/models/{sha256(model)}").status_code == 401


def test_a_file_that_is_gone(world, fetch, model, refused) -> None:
    world.services.blobs.delete(model_key(sha256(model)))
    assert "backup" in refused(fetch(), 404, "not-found")["detail"]
    refused(fetch(Range="bytes=0-9"), 404, "not-found")
    assert fetch(method="HEAD").status_code == 404
    wish = {"name": "another", "model": sha256(model)}
    refused(world.operate("POST", "/v1/studies", json=wish), 404, "not-found")


def test_copies_that_are_still_good(fetch, model) -> None:
    tag = f'"{sha256(model)}"'
    answer = fetch(If_None_Match=tag)
    assert (answer.status_code, answer.content) == (304, b"")
    assert fetch(If_None_Match='"other"').status_code == 200
    assert fetch(Range="bytes=0-9", If_Range=tag).status_code == 206
    assert fetch(Range="bytes=0-9", If_Range='"other"').status_code == 200


def test_who_may_download(world, model, refused) -> None:
    site, path = world.new_site("hospital-x"), f"/v1/models/{sha256(model)}"
    refused(site.call("GET", path), 403, "not-a-member")
    site.ok("PUT", f"{world.study}/membership")
    assert site.ok("GET", path).content == model
    refused(site.call("GET", f"/v1/models/{'ab' * 32}"), 404, "not-found")
