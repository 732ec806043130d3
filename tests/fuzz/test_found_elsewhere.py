"""What the fuzzer once found in readers that trusted a peer's numbers, each by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import fuzz_files
import fuzz_keys
import httpx
import numpy as np
import pytest
from fuzz_federation import LAYOUT, STUDY
from test_found import NO_FLOATS, model_of

from coordinator.api import models
from coordinator.errors import TokenInvalid
from crypto import ckks_public
from crypto.canonical import canonical, sha256
from crypto.ckks_public import PublicContext
from crypto.errors import Malformed
from crypto.layout import Layout, Tensor
from crypto.model_file import next_model
from models.flatten import LayoutMismatch, read_model
from participant.model_store import ModelStore
from participant.policy import Refused
from participant.session import Problem


def test_a_context_that_would_take_a_gigabyte_is_not_built(monkeypatch):
    monkeypatch.setattr(ckks_public.ts, "context_from", lambda *_, **__: pytest.fail("SEAL was asked to build it"))
    with pytest.raises(Malformed, match="this one has others"):
        PublicContext.load(fuzz_keys._VAST_CONTEXT)


def test_a_context_with_two_sets_of_parameters_is_not_built(monkeypatch):
    """Of a field that is there twice, protobuf takes the last."""
    honest = fuzz_keys.federation().dealt.public_context
    monkeypatch.setattr(ckks_public.ts, "context_from", lambda *_, **__: pytest.fail("SEAL was asked to build it"))
    with pytest.raises(Malformed):
        PublicContext.load(honest + fuzz_keys._VAST_CONTEXT)


@pytest.mark.parametrize(("dtype", "size", "shape"), NO_FLOATS)
def test_a_tensor_that_numpy_cannot_hold_is_refused_by_every_reader(dtype, size, shape):
    data = model_of(dtype, size, shape)
    with pytest.raises(Refused, match="lacks scale"):
        fuzz_files._fetch(data)
    with pytest.raises(LayoutMismatch):
        read_model(fuzz_files._written(data))
    with pytest.raises(Malformed):
        next_model(data, LAYOUT, np.zeros(LAYOUT.size, np.float32), {}, STUDY, 1)


def test_a_vast_layout_takes_no_memory(tmp_path, monkeypatch):
    data = fuzz_files._model("pleura/model/v1")
    client: Any = SimpleNamespace(download_model=lambda _, file: file.write_bytes(data))
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("memory was asked for"))
    with pytest.raises(Refused, match="lacks weight"):
        ModelStore(tmp_path).vector(client, sha256(data), Layout((Tensor("weight", (2**33,), "parameter"),)))


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000], ids=["lists", "objects"])
def test_a_problem_document_without_end(body):
    with pytest.raises(Problem, match="answered 409"):
        _read_problem(httpx.Response(409, content=body))


@pytest.mark.parametrize(("header", "seconds"), [("9" * 400, 3600.0), ("²", None), ("120", 120.0), ("-1", None)])
def test_how_long_a_coordinator_may_have_a_site_wait(header, seconds):
    with pytest.raises(Problem) as caught:
        _read_problem(httpx.Response(503, headers=[(b"Retry-After", header.encode())]))
    assert caught.value.retry_after == seconds


def test_a_date_beyond_any_calendar():
    with pytest.raises(Problem, match="answered 401"):
        _read_problem(httpx.Response(401, headers={"Date": f"Tue, 14 Nov {'9' * 40} 22:13:20 GMT"}))


def _read_problem(response: httpx.Response) -> None:
    response.request = httpx.Request("GET", "http://coordinator/v1/status")
    fuzz_keys.Session(fuzz_keys._CLIENT, clock=lambda: fuzz_keys._NOW)._check(response)


def test_a_range_of_thousands_of_digits_is_no_range():
    for header in (f"bytes={'9' * 5000}-", f"bytes=-{'9' * 5000}", f"bytes=1-{'9' * 5000}"):
        assert models._range({"range": header}, "tag", 1000) is None


@pytest.mark.parametrize("claim", ["iat", "exp"])
def test_a_time_beyond_any_float(claim):
    claims = canonical(fuzz_keys._CLAIMS | {claim: None}).replace(b"null", b"1" + b"0" * 400)
    with pytest.raises(TokenInvalid, match="Unix seconds"):
        fuzz_keys._verify_claims(claims)
