"""Shares: the arithmetic against Python's integers, what too few of them say, and which of them are wrong."""

from __future__ import annotations

import hashlib
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from crypto import shamir
from crypto.errors import CryptoError, Malformed, OpeningRefused, OutOfRange, SharesDisagree, TooFewShares
from crypto.lwe import draw_secret
from crypto.parameters import K_LIMIT, SECRET_BOUND, N
from crypto.shamir import P, add_shares, combine, minimum_threshold, split

KEY = bytes(range(32))
# Found by trying: word 102,083 of this keystream is 2^32 - 1, which stands for no residue.
REJECTING_KEY = hashlib.sha256(b"pleura/shamir/test/73713").digest()
REJECTED = 102_083


@pytest.fixture
def secret() -> np.ndarray:
    return draw_secret(KEY)


def python_words(key: bytes, count: int) -> list[int]:
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(4 * count))
    return [int.from_bytes(stream[4 * k : 4 * k + 4], "little") for k in range(count)]


def python_residues(key: bytes, count: int) -> list[int]:
    masked = [word % 2**31 for word in python_words(key, count + 64)]
    return [word for word in masked if word != P][:count]


def python_interpolate(points: list[int], values: list[int], at: int) -> int:
    """Lagrange's formula as it is written in textbooks."""
    total = 0
    for i, xi in enumerate(points):
        numerator, denominator = 1, 1
        for k, xk in enumerate(points):
            if k != i:
                numerator, denominator = numerator * (at - xk) % P, denominator * (xi - xk) % P
        total += values[i] * numerator * pow(denominator, P - 2, P)
    return total % P


def tampered(shares, index, columns=slice(None), by=1):
    changed = shares[index].astype(np.int64)
    changed[columns] = (changed[columns] + by) % P
    return shares | {index: changed.astype(np.uint32)}


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


# --- what too few shares say


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


# --- wrong shares


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


# --- the shortest recurrence


def continued(recurrence: list[int], start: list[int], length: int) -> list[int]:
    """The sequence that begins so and obeys (1, c_1, ..., c_L), in Python's integers."""
    sequence = list(start)
    while len(sequence) < length:
        sequence.append(-sum(c * sequence[-k] for k, c in enumerate(recurrence) if k) % P)
    return sequence


def obeys(sequence: list[int], recurrence: list[int], order: int) -> bool:
    return all(
        sum(c * sequence[n - k] for k, c in enumerate(recurrence) if n >= k) % P == 0
        for n in range(order, len(sequence))
    )


@pytest.mark.parametrize("order", range(1, 7))
def test_the_shortest_recurrence_of_a_sequence(order):
    """Twice as many terms as its order determine it; begun with zeros, it is found out late."""
    drawn = python_residues(KEY, 40 * order)
    for trial in range(20):
        recurrence = [1, *drawn[trial * order : (trial + 1) * order]]
        zeros = trial % order
        start = [0] * zeros + drawn[20 * order + trial : 21 * order + trial - zeros]
        sequence = continued(recurrence, start, 2 * order)
        found, length = shamir._shortest_recurrence(sequence)
        assert length == order
        assert (found + [0] * order)[: order + 1] == recurrence
        assert obeys(sequence, found, length)


@pytest.mark.parametrize(
    ("sequence", "order"),
    [
        ([], 0),
        ([0, 0, 0, 0], 0),
        ([1, 0, 0, 0], 1),  # c_1 = 0
        ([0, 0, 0, 1], 4),  # nothing shorter explains the one
        ([0, 0, 1, 0, 0, 1], 3),
        ([1, 1, 2, 3, 5, 8], 2),
        ([1, 2, 4, 8, 16, 33], 5),  # the last term breaks the powers of two
        ([1, 1, 1, 1, 0, 1], 4),
    ],
)
def test_sequences_whose_shortest_recurrence_is_known(sequence, order):
    found, length = shamir._shortest_recurrence(sequence)
    assert length == order
    assert found[0] == 1
    assert all(0 <= c < P for c in found)
    assert obeys(sequence, found, length)


# --- what is refused


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


def test_what_was_opened_does_not_show(secret):
    assert repr(combine(split(secret, 2, [1, 2]), 2)) == "Combined(wrong=())"
