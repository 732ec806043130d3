"""Shares: the arithmetic against Python's integers, there and back."""

from __future__ import annotations

import hashlib
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import python_shamir
from python_shamir import KEY, python_interpolate, python_residues, python_words, tampered

from crypto import shamir
from crypto.lwe import draw_secret
from crypto.parameters import K_LIMIT, SECRET_BOUND, N
from crypto.shamir import P, add_shares, combine, minimum_threshold, split

# Found by trying: word 102,083 of this keystream is 2^32 - 1, which stands for no residue.
REJECTING_KEY = hashlib.sha256(b"pleura/shamir/test/73713").digest()
REJECTED = 102_083
secret = python_shamir.secret

# --- against Python's integers


def test_the_prime_is_prime():
    residue = 4  # Lucas-Lehmer
    for _ in range(31 - 2):
        residue = (residue * residue - 2) % P
    assert residue == 0
    assert P == 2**31 - 1


def test_shares_are_values_of_the_polynomials(secret):
    threshold, indices = 4, [1, 2, 5, 1000, P - 1]
    shares = shamir._split_with(KEY, secret, threshold, indices)
    drawn = python_residues(KEY, (threshold - 1) * N)
    for column in (0, 1, 1000, N - 1):
        coefficients = [int(secret[column]), *(drawn[row * N + column] for row in range(threshold - 1))]
        for x in indices:
            assert shares[x][column] == sum(c * x**k for k, c in enumerate(coefficients)) % P


@pytest.mark.parametrize("count", [REJECTED, REJECTED + 1, REJECTED + 2, REJECTED + 3, REJECTED + 50])
def test_a_word_that_is_no_residue_is_left_out(count):
    """With 102,084 wanted, the 102,084 words of the first reading give one too few."""
    assert shamir._uniform(REJECTING_KEY, count).tolist() == python_residues(REJECTING_KEY, count)


def test_that_word_is_there():
    assert python_words(REJECTING_KEY, REJECTED + 1)[REJECTED] == 2**32 - 1


def test_combining_is_lagranges_formula(secret):
    shares = split(secret, 3, [2, 3, 7, 11])
    chosen = {index: shares[index] for index in (3, 7, 11)}
    opened = combine(chosen, 3).secret
    for column in (0, 17, N - 1):
        value = python_interpolate([3, 7, 11], [int(chosen[index][column]) for index in (3, 7, 11)], 0)
        assert value == opened[column] % P == secret[column] % P


def test_products_of_the_largest_residues_are_exact():
    largest = np.full((3, K_LIMIT), P - 1, np.int64)
    assert (shamir._product(largest, largest.T) == K_LIMIT).all()  # (-1)(-1), 1,024 times


# --- there and back


def test_negatives_come_back_centred():
    values = np.resize([0, -1, 1, -SECRET_BOUND, SECRET_BOUND, -(P // 2), P // 2, -32 * K_LIMIT, 32 * K_LIMIT], N)
    opened = combine(split(values, 2, [1, 2, 3]), 2)
    assert opened.secret.dtype == np.int64
    assert np.array_equal(opened.secret, values)
    assert opened.wrong == ()
    with pytest.raises(FrozenInstanceError):
        opened.wrong = (1,)


def test_a_threshold_of_one_shares_openly(secret):
    shares = split(secret, 1, [1, 2])
    for share in shares.values():
        assert np.array_equal(share, secret % P)
    assert np.array_equal(combine({2: shares[2]}, 1).secret, secret)


def test_splitting_twice_shares_nothing(secret):
    first, second = (split(secret, 3, range(1, 5)) for _ in range(2))
    for index in first:
        assert (first[index] == second[index]).mean() < 0.01


def test_sums_of_shares_are_shares_of_the_sum():
    secrets = [draw_secret() for _ in range(40)]
    dealt = [split(secret, 5, range(1, 8)) for secret in secrets]
    sums = {index: add_shares(shares[index] for shares in dealt) for index in (2, 3, 5, 6, 7)}
    assert sums[2].dtype == np.uint32
    assert np.array_equal(combine(sums, 5).secret, np.sum(secrets, axis=0))


def test_any_order_of_answers_is_the_same(secret):
    shares = split(secret, 3, range(1, 8))
    backwards = dict(sorted(tampered(tampered(shares, 2), 5).items(), reverse=True))
    opened = combine(backwards, 3)
    assert np.array_equal(opened.secret, secret)
    assert opened.wrong == (2, 5)


@pytest.mark.parametrize(("members", "threshold"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (64, 43)])
def test_the_minimum_threshold(members, threshold):
    """Two ballots need t answers each: at least 2t - n members answer both, which is more than a third of them."""
    assert minimum_threshold(members) == threshold <= members
    assert 2 * threshold - members > members / 3
