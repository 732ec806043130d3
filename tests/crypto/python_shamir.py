"""Shamir's sharing in Python's integers, and shares that somebody changed."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from crypto.lwe import draw_secret
from crypto.shamir import P

KEY = bytes(range(32))


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
