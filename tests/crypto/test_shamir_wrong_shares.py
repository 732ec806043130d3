"""Wrong shares: which are named, and when they can only be noticed, or not even that."""

from __future__ import annotations

import numpy as np
import pytest
import python_shamir
from python_shamir import tampered

from crypto import shamir
from crypto.errors import CryptoError, OpeningRefused, SharesDisagree, TooFewShares
from crypto.lwe import draw_secret
from crypto.parameters import N
from crypto.shamir import P, combine, split

secret = python_shamir.secret


@pytest.mark.parametrize("columns", [slice(None), slice(0, 1), slice(N - 1, N), slice(None, None, 3)])
@pytest.mark.parametrize("by", [1, P - 1, 123_456_789])
def test_a_wrong_share_is_named_and_left_out(secret, columns, by):
    shares = split(secret, 5, range(1, 8))
    for index in (1, 4, 7):
        opened = combine(tampered(shares, index, columns, by), 5)
        assert opened.wrong == (index,)
        assert np.array_equal(opened.secret, secret)


def test_another_secrets_share_is_named(secret):
    shares, others = split(secret, 5, range(1, 8)), split(draw_secret(), 5, range(1, 8))
    opened = combine(shares | {3: others[3]}, 5)
    assert opened.wrong == (3,)
    assert np.array_equal(opened.secret, secret)


def test_as_many_wrong_ones_as_can_be_told(secret):
    shares = split(secret, 15, range(1, 22))
    for index in (2, 9, 21):
        shares = tampered(shares, index, by=index)
    opened = combine(shares, 15)
    assert opened.wrong == (2, 9, 21)
    assert np.array_equal(opened.secret, secret)
    with pytest.raises(SharesDisagree, match="at most 3 wrong ones"):
        combine(tampered(shares, 5, by=5), 15)


def test_each_coefficient_stands_for_itself(secret):
    """One wrong share can be told with 7 of 5; here each coefficient has another one."""
    shares = split(secret, 5, range(1, 8))
    for column, index in enumerate([3, 1, 7, 3, 6, 2, 5, 4, 3]):
        shares = tampered(shares, index, slice(column, column + 1), by=1 + column)
    opened = combine(shares, 5)
    assert opened.wrong == (1, 2, 3, 4, 5, 6, 7)
    assert np.array_equal(opened.secret, secret)


def test_only_those_that_are_wrong_are_named(secret):
    """Two of eight can be told, together or one after the other."""
    shares = split(secret, 4, range(1, 9))
    shares = tampered(tampered(shares, 2, slice(0, 10)), 6, slice(5, 20))
    assert combine(shares, 4).wrong == (2, 6)
    assert np.array_equal(combine(shares, 4).secret, secret)


def test_one_more_than_the_threshold_notices_but_cannot_tell(secret):
    shares = tampered(split(secret, 4, range(1, 6)), 2, slice(7, 8))
    with pytest.raises(SharesDisagree, match="at most 0 wrong ones"):
        combine(shares, 4)


def test_an_error_made_to_point_at_an_honest_share(secret):
    """One more than the threshold leaves one syndrome, and a liar can make it look like an error of somebody else."""
    shares = split(secret, 4, range(1, 6))
    liar, honest = 1, 3
    differences = (liar - 2) * (liar - 3) * (liar - 4) * (liar - 5)
    shares = tampered(shares, liar, by=honest * differences % P)
    values = np.stack([shares[index].astype(np.int64) for index in range(1, 6)])
    syndromes = shamir._syndromes([1, 2, 3, 4, 5], values, 4)
    assert (syndromes == honest).all()
    assert shamir._locate(syndromes[:, 0].tolist(), [1, 2, 3, 4, 5]) == {honest - 1}  # its place
    with pytest.raises(SharesDisagree, match="at most 0 wrong"):
        combine(shares, 4)


def test_the_threshold_alone_cannot_notice(secret):
    shares = tampered(split(secret, 4, range(1, 5)), 2, slice(7, 8))
    opened = combine(shares, 4)
    assert opened.wrong == ()
    assert np.flatnonzero(opened.secret != secret).tolist() == [7]


def test_a_refused_opening_is_an_opening_refused():
    assert issubclass(SharesDisagree, OpeningRefused)
    assert issubclass(TooFewShares, OpeningRefused)
    assert issubclass(OpeningRefused, CryptoError)
