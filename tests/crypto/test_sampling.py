"""The keystream against AES block by block, and what is drawn from it."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from crypto import sampling
from crypto.parameters import SECRET_BOUND, SIGMA, N
from crypto.sampling import binomial, fresh_key, keystream, public_polynomials, public_seed

KEY = bytes(range(32))


def aes_of_counters(first, count):
    """The keystream by its definition: AES of the big-endian numbers first, first + 1, ..."""
    encryptor = Cipher(algorithms.AES256(KEY), modes.ECB()).encryptor()  # noqa: S305 - single blocks are the point here
    return encryptor.update(b"".join((first + i).to_bytes(16, "big") for i in range(count)))


@pytest.mark.parametrize("first", [0, 1, 255, 256, 2**32 - 1, 2**64 - 1])
def test_keystream_is_aes_of_a_big_endian_counter(first):
    assert keystream(KEY, 16 * first, 64).tobytes() == aes_of_counters(first, 4)


def test_keystream_may_end_anywhere():
    assert keystream(KEY, 16, 5).tobytes() == aes_of_counters(1, 1)[:5]
    assert keystream(KEY, 0, 0).size == 0


@pytest.mark.parametrize(("key", "start", "length"), [(KEY[:16], 0, 16), (KEY, 8, 16), (KEY, -16, 16), (KEY, 0, -1)])
def test_keystream_refuses_what_it_cannot_mean(key, start, length):
    with pytest.raises(ValueError, match="keystream"):
        keystream(key, start, length)


def test_public_seed_is_the_labelled_hash_of_the_study():
    study = uuid.UUID("113fa9ef-bac4-a625-b9c6-77f28e6875e6")
    assert public_seed(study) == hashlib.sha256(b"pleura/lwe/v1/public\0" + study.bytes).digest()
    assert public_seed(study) != public_seed(uuid.uuid4())


def test_polynomial_j_starts_at_counter_512_j():
    polynomials = public_polynomials(KEY, 3, 2)
    assert polynomials.shape == (2, N)
    assert polynomials.dtype == np.uint32
    assert polynomials.tobytes() == aes_of_counters(512 * 3, 1024)
    np.testing.assert_array_equal(polynomials[1:], public_polynomials(KEY, 4, 1))


def test_binomial_counts_bits_of_word_pairs():
    words = [int.from_bytes(aes_of_counters(0, 50)[4 * i : 4 * i + 4], "little") for i in range(200)]
    expected = [u.bit_count() - v.bit_count() for u, v in zip(words[0::2], words[1::2], strict=True)]
    assert binomial(KEY, 0, 100).tolist() == expected


def test_binomial_from_any_even_sample(monkeypatch):
    whole = binomial(KEY, 0, 1000)
    monkeypatch.setattr(sampling, "_SAMPLES", 64)
    np.testing.assert_array_equal(binomial(KEY, 0, 1000), whole)
    np.testing.assert_array_equal(binomial(KEY, 130, 301), whole[130:431])
    with pytest.raises(ValueError, match="multiple of 16"):
        binomial(KEY, 1, 4)


def test_binomial_has_the_variance_the_security_argument_counts_on():
    samples = binomial(KEY, 0, 1 << 20)
    assert samples.dtype == np.int32
    assert np.abs(samples).max() <= SECRET_BOUND
    assert abs(samples.mean()) < 0.03  # about 8 standard deviations of the mean of 2^20 samples
    assert abs(samples.var() - SIGMA**2) < 0.2


def test_binomial_reaches_its_bounds_and_not_beyond(monkeypatch):
    words = np.array([0xFFFFFFFF, 0, 0, 0xFFFFFFFF], "<u4")
    monkeypatch.setattr(sampling, "keystream", lambda *_: words.view(np.uint8))
    assert binomial(KEY, 0, 2).tolist() == [32, -32]


def test_fresh_keys_are_fresh():
    keys = {fresh_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {32}
