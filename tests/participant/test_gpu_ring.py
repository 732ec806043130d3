"""Products by torch are, bit for bit, those of `crypto.ring`: on the processor, and on a GPU where there is one."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
import torch

from crypto.errors import OutOfRange
from crypto.lwe import Sealer
from crypto.parameters import N
from crypto.ring import SMALL_LIMIT, FftMultiplier
from participant.gpu_ring import multiplier_for, multiplier_on

RANDOM = np.random.default_rng(8)
UNIFORM = RANDOM.integers(0, 2**32, (70, N), np.uint32)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SMALL = {
    "a secret": RANDOM.integers(-32, 33, N),
    "a sum of secrets": RANDOM.integers(-SMALL_LIMIT, SMALL_LIMIT + 1, N),
    "all the largest": np.full(N, SMALL_LIMIT),
    "extreme signs": np.where(np.arange(N) < N // 2, SMALL_LIMIT, -SMALL_LIMIT),
    "zero": np.zeros(N, np.int64),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("polynomials", [UNIFORM, np.full((3, N), 0xFFFFFFFF, np.uint32)], ids=["uniform", "largest"])
def test_products_are_the_same_bit_for_bit(device, name, polynomials):
    untouched = polynomials.copy()
    products = multiplier_on(device)(SMALL[name])(polynomials)
    assert products.dtype == np.uint32
    np.testing.assert_array_equal(products, FftMultiplier(SMALL[name])(polynomials))
    np.testing.assert_array_equal(polynomials, untouched)


@pytest.mark.parametrize("device", DEVICES)
def test_a_contribution_sealed_there_is_the_same(device):
    keys = bytes(range(32)), bytes(range(32, 64))
    messages = RANDOM.integers(-(2**26), 2**26, 5 * N + 3, np.int32)
    here = Sealer(uuid.UUID(int=9), *keys).seal_part(2, messages)
    there = Sealer(uuid.UUID(int=9), *keys, multiplier_on(device)).seal_part(2, messages)
    np.testing.assert_array_equal(there, here)


def test_what_might_not_be_exact_is_refused():
    with pytest.raises(OutOfRange, match="32768"):
        multiplier_on("cpu")(np.full(N, SMALL_LIMIT + 1))
    with pytest.raises(ValueError, match="no double precision"):
        multiplier_on("mps")


def test_where_it_computes_follows_the_configuration():
    assert multiplier_for("cpu") is FftMultiplier
    assert multiplier_for("mps") is FftMultiplier
    assert (multiplier_for("auto") is FftMultiplier) is not torch.cuda.is_available()


def test_the_secret_does_not_show():
    multiplier = multiplier_on("cpu")(SMALL["a secret"])
    assert "hidden" in repr(multiplier)
    assert len(repr(multiplier)) < 80
