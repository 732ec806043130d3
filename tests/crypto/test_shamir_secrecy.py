"""What fewer shares than the threshold say of the secret: nothing."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import python_shamir
from python_shamir import KEY, python_interpolate

from crypto import shamir
from crypto.errors import TooFewShares
from crypto.lwe import draw_secret
from crypto.parameters import N
from crypto.shamir import P, combine, split

secret = python_shamir.secret


def test_too_few_shares_fit_every_secret(secret):
    """For any t - 1 shares and any other secret there are polynomials that give just these shares."""
    threshold, known = 4, [2, 3, 5]
    shares = shamir._split_with(KEY, secret, threshold, [1, 2, 3, 4, 5])
    other = draw_secret(bytes(32))
    for column in range(0, N, 97):
        points, values = [0, *known], [int(other[column]), *(int(shares[index][column]) for index in known)]
        fourth = python_interpolate(points, values, 1)
        opened = python_interpolate([1, *known], [fourth, *values[1:]], 0)
        assert opened == other[column] % P


def chi_squared(coefficient: int, threshold: int) -> float:
    """Over 8 x 8 x 8 bins of the shares at 1, 2 and 3 of one and the same secret; fixed keys, so never by chance."""
    counts = np.zeros((8, 8, 8))
    for number in range(20):
        key = hashlib.sha256(b"%d" % number).digest()
        shares = shamir._split_with(key, np.full(N, coefficient), threshold, [1, 2, 3, 4])
        np.add.at(counts, tuple(shares[index] >> np.uint32(28) for index in (1, 2, 3)), 1)
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("coefficient", [0, 32, -32])
def test_too_few_shares_are_uniform_and_independent(coefficient):
    assert 511 - 4 * 32 < chi_squared(coefficient, threshold=4) < 511 + 4 * 32  # 511 degrees of freedom, deviation 32


def test_enough_shares_are_not_independent():
    """The same figure for a threshold of 3, where the third share follows from the secret and the other two."""
    assert chi_squared(0, threshold=3) > 10_000


def test_too_few_shares_do_not_open(secret):
    shares = split(secret, 3, range(1, 5))
    for number in (0, 1, 2):
        with pytest.raises(TooFewShares, match=f"{number} shares say nothing: it takes 3"):
            combine(dict(list(shares.items())[:number]), 3)
    with pytest.raises(TooFewShares):
        combine(shares, 0)


def test_what_was_opened_does_not_show(secret):
    assert repr(combine(split(secret, 2, [1, 2]), 2)) == "Combined(wrong=())"
