"""Indices, thresholds, secrets and shares that are none, and the bytes of a share."""

from __future__ import annotations

import numpy as np
import pytest
import python_shamir

from crypto import shamir
from crypto.errors import Malformed, OutOfRange
from crypto.parameters import N
from crypto.shamir import P, add_shares, combine, split

secret = python_shamir.secret


@pytest.mark.parametrize("indices", [[0, 1, 2], [1, 2, P], [1, 2, P + 1], [1, 2, 2], [-1, 1, 2], [1, 2, 2**53 - 1]])
def test_indices_at_which_nothing_may_be_dealt(secret, indices):
    """At 0 and at p a share is the secret itself, and 1 and p + 1 are one and the same."""
    with pytest.raises(Malformed, match="distinct indices from 1 to 2147483646; "):
        split(secret, 2, indices)
    with pytest.raises(Malformed, match="distinct indices"):
        combine(dict.fromkeys([*indices[:2], 9, indices[-1] if indices != [1, 2, 2] else 0], np.zeros(N, np.uint32)), 2)


@pytest.mark.parametrize("threshold", [0, -1, 4])
def test_thresholds_that_make_no_sense(secret, threshold):
    with pytest.raises(ValueError, match="never reach"):
        split(secret, threshold, [1, 2, 3])


def test_secrets_that_are_none(secret):
    longer = np.append(secret, 0)
    for wrong in (secret[:-1], longer, secret.astype(float), secret.astype(np.uint64), secret.reshape(2, -1)):
        with pytest.raises(ValueError, match="2048 integers"):
            split(wrong, 2, [1, 2])
    for value in (P // 2 + 1, -(P // 2) - 1):
        with pytest.raises(OutOfRange, match="farther than 1073741823 from zero"):
            split(np.full(N, value), 2, [1, 2])


NO_SHARES = {
    "short": np.zeros(N - 1, np.uint32),
    "long": np.zeros(N + 1, np.uint32),
    "matrix": np.zeros((2, N // 2), np.uint32),
    "signed": np.zeros(N, np.int64),
    "floats": np.zeros(N),
    "p": np.full(N, P, np.uint32),
    "narrow": np.zeros(N, np.uint16),
    "largest": np.append(np.zeros(N - 1, np.uint32), np.uint32(2**32 - 1)),
}


@pytest.mark.parametrize("wrong", NO_SHARES.values(), ids=NO_SHARES)
def test_what_is_no_share(secret, wrong):
    good = split(secret, 2, [1, 2])
    for call in (
        lambda: add_shares([good[1], wrong]),
        lambda: add_shares([wrong]),
        lambda: combine({1: good[1], 2: wrong}, 2),
        lambda: shamir.write_share(wrong),
    ):
        with pytest.raises(Malformed, match="a share is 2048 uint32"):
            call()


def test_nothing_is_no_sum():
    with pytest.raises(Malformed, match="no share to add"):
        add_shares([])


def test_bytes_of_a_share(secret):
    share = split(secret, 2, [1, 2])[1]
    data = shamir.write_share(share)
    assert len(data) == shamir.SHARE_BYTES == 8192
    assert data[4:8] == int(share[1]).to_bytes(4, "little")
    assert np.array_equal(shamir.read_share(data), share)
    for wrong in (b"", data[:-1], data + b"\x00"):
        with pytest.raises(Malformed, match="8192 bytes"):
            shamir.read_share(wrong)
    for value in (P, P + 1, 2**32 - 1):
        with pytest.raises(Malformed, match="below"):
            shamir.read_share(data[:-4] + value.to_bytes(4, "little"))
