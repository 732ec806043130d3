"""The transform's products against multiplication as on paper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.errors import OutOfRange
from crypto.parameters import N
from crypto.ring import SMALL_LIMIT, FftMultiplier

RANDOM = np.random.default_rng(7)
TOP = 0xFFFFFFFF


def by_python_integers(polynomial, small):
    """Schoolbook over Python's unbounded integers, reduced only at the end."""
    product = [0] * (2 * N)
    left = [int(value) for value in polynomial]
    for shift, factor in enumerate(int(value) for value in small):
        if factor:
            product[shift : shift + N] = [
                old + factor * new for old, new in zip(product[shift : shift + N], left, strict=True)
            ]
    return np.array([(product[i] - product[i + N]) % 2**32 for i in range(N)], np.uint32)


def by_wrapping(polynomial, small):
    """Schoolbook modulo 2^64: quick, and still another way than the transform."""
    product = np.zeros(2 * N, np.uint64)
    left = polynomial.astype(np.uint64)
    for shift, factor in enumerate(small.astype(np.uint64)):
        product[shift : shift + N] += factor * left
    return (product[:N] - product[N:]).astype(np.uint32)


def uniform(count):
    return RANDOM.integers(0, 2**32, (count, N), np.uint32)


EXTREMES = {
    "all the largest": (np.full(N, TOP, np.uint32), np.full(N, SMALL_LIMIT)),
    "all the smallest": (np.full(N, TOP, np.uint32), np.full(N, -SMALL_LIMIT)),
    "signs that meet no cancellation": (
        np.full(N, TOP, np.uint32),
        np.where(np.arange(N) < N // 2, SMALL_LIMIT, -SMALL_LIMIT),
    ),
    "extreme signs at random": (uniform(1)[0], RANDOM.choice([-SMALL_LIMIT, SMALL_LIMIT], N)),
    "high limbs only": (np.full(N, 0xFFFF0000, np.uint32), np.full(N, SMALL_LIMIT)),
    "a secret": (uniform(1)[0], RANDOM.integers(-32, 33, N)),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_product_is_that_of_python_integers(name):
    polynomial, small = EXTREMES[name]
    product = FftMultiplier(small)(polynomial.reshape(1, N))
    np.testing.assert_array_equal(product[0], by_python_integers(polynomial, small))


def test_both_references_agree():
    polynomial, small = EXTREMES["extreme signs at random"]
    np.testing.assert_array_equal(by_wrapping(polynomial, small), by_python_integers(polynomial, small))


@given(seed=st.integers(0, 2**32 - 1), limit=st.sampled_from([1, 32, 32 * 64, SMALL_LIMIT]))
@settings(max_examples=25, deadline=None)
def test_product_of_random_polynomials(seed, limit):
    random = np.random.default_rng(seed)
    polynomial = random.integers(0, 2**32, N, np.uint32)
    small = random.integers(-limit, limit + 1, N)
    np.testing.assert_array_equal(FftMultiplier(small)(polynomial.reshape(1, N))[0], by_wrapping(polynomial, small))


@pytest.mark.parametrize("count", [1, 31, 32, 33, 70])
def test_block_edges_change_nothing(count):
    polynomials, small = uniform(count), RANDOM.integers(-SMALL_LIMIT, SMALL_LIMIT + 1, N)
    untouched = polynomials.copy()
    products = FftMultiplier(small)(polynomials)
    np.testing.assert_array_equal(polynomials, untouched)
    for row in {0, count // 2, count - 1}:
        np.testing.assert_array_equal(products[row], by_wrapping(polynomials[row], small))


def test_x_to_the_n_is_minus_one():
    x = np.zeros(N, np.int64)
    x[1] = 1
    polynomial = uniform(1)
    expected = np.concatenate([-polynomial[:, -1:], polynomial[:, :-1]], axis=1)
    np.testing.assert_array_equal(FftMultiplier(x)(polynomial), expected)


@pytest.mark.parametrize("value", [SMALL_LIMIT + 1, -SMALL_LIMIT - 1, np.iinfo(np.int64).min])
def test_coefficients_too_large_for_exactness_are_refused(value):
    small = np.zeros(N, np.int64)
    small[5] = value
    with pytest.raises(OutOfRange, match="32768"):
        FftMultiplier(small)


@pytest.mark.parametrize("small", [np.zeros(N - 1, np.int64), np.zeros(N)])
def test_something_else_than_a_small_polynomial_is_refused(small):
    with pytest.raises(ValueError, match="2048 integers"):
        FftMultiplier(small)
