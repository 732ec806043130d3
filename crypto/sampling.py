"""Numbers from AES-256 in counter mode: public polynomials, secrets, errors (protocol, section 3), Gaussian noise."""

from __future__ import annotations

import hashlib
import uuid
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from scipy.special import ndtri

from crypto.parameters import N
from crypto.randomness import random_bytes

KEY_BYTES = 32
NORMAL_LIMIT: Final = 8.3  # no sample of `normal` is farther out: the smallest probability it inverts is 2^-53
_BLOCK = 16  # bytes of one AES block, and of one step of the counter
_PUBLIC_LABEL = b"pleura/lwe/v1/public\x00"
_SAMPLES = 1 << 16  # samples drawn at a time: 512 KiB of keystream stay in the core's cache


def fresh_key() -> bytes:
    """A new AES-256 key from the operating system."""
    return random_bytes(KEY_BYTES)


def keystream(key: bytes, start_byte: int, length: int) -> NDArray[np.uint8]:
    """Bytes [start_byte, start_byte + length) of the AES-256-CTR keystream, uint8 [length].

    The counter is 128 bits, big-endian, and 0 at byte 0.

    Raises:
        ValueError: the key is not 32 bytes, or `start_byte` is negative or no multiple of 16.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a keystream has a key of {KEY_BYTES} bytes, not {len(key)}")
    if start_byte < 0 or start_byte % _BLOCK or length < 0:
        raise ValueError(f"a keystream is read from a multiple of {_BLOCK} on, not from byte {start_byte}")
    counter = (start_byte // _BLOCK).to_bytes(_BLOCK, "big")
    encryptor = Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor()
    return np.frombuffer(encryptor.update(bytes(length)), np.uint8)


def public_seed(study: uuid.UUID) -> bytes:
    """The key of a study's public polynomials: derived, so that nobody chooses it."""
    return hashlib.sha256(_PUBLIC_LABEL + study.bytes).digest()


def public_polynomials(seed: bytes, start: int, count: int) -> NDArray[np.uint32]:
    """Polynomials a_start, a_(start+1), ... of a study, uint32 [count, 2048]."""
    stream = keystream(seed, 4 * N * start, 4 * N * count)
    return stream.view("<u4").reshape(count, N)


def binomial(key: bytes, start: int, count: int) -> NDArray[np.int32]:
    """Centred binomial samples start, start + 1, ... under `key`, int32 [count].

    Each is popcount(u) - popcount(v) of two keystream words: variance 16, never outside [-32, 32].

    Raises:
        ValueError: `start` is odd (two samples share an AES block) or negative.
    """
    samples = np.empty(count, np.int32)
    for done in range(0, count, _SAMPLES):
        block = samples[done : done + _SAMPLES]
        words = keystream(key, 8 * (start + done), 8 * block.size).view("<u4")
        ones = np.bitwise_count(words)
        np.subtract(ones[0::2], ones[1::2], out=block, dtype=np.int32)
    return samples


def normal(key: bytes, start: int, count: int) -> NDArray[np.float64]:
    """Standard normal samples start, start + 1, ... under `key`, float64 [count], none beyond `NORMAL_LIMIT`.

    Each is the quantile at a uniform number of 52 bits, so that the keystream decides it alone; with 53 the largest
    number would be rounded to 1, whose quantile is infinite.

    Raises:
        ValueError: as for `binomial`.
    """
    words = keystream(key, 8 * start, 8 * count).view("<u8")
    samples: NDArray[np.float64] = ndtri(((words >> 12) + 0.5) * 2.0**-52)
    return samples
