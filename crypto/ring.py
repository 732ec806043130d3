"""Exact products in Z_q[X]/(X^2048 + 1), q = 2^32, by floating-point transforms.

Modulo X^2048 + 1 a real polynomial is known by its values at the 1,024 roots where X^1024 = i, so the complex vector
a_j + i a_(j+1024), twisted by exp(i pi j / 2048), has the product as a plain cyclic one of length 1,024: no padding.
One factor is small (|s| <= 2^15); the other is cut into two 16-bit limbs. Every exact intermediate is then below
2048 * 2^16 * 2^15 = 2^42, which leaves double precision enough bits behind the point to round to the right integer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from crypto.errors import OutOfRange
from crypto.parameters import K_LIMIT, SECRET_BOUND, N

SMALL_LIMIT = SECRET_BOUND * K_LIMIT  # a sum of secrets is never larger

_HALF = N // 2
TWIST: Final = np.exp(1j * np.pi / N * np.arange(_HALF))
_BLOCK = 32  # polynomials at a time: both limbs of their transforms (1 MiB) stay in the core's cache
# Added to a double below 2^51 in size, this leaves its nearest integer, modulo 2^32, in the low half of the mantissa.
_ROUNDER = 1.5 * 2.0**52


class Multiplier(Protocol):
    """Products of uniform polynomials with one small polynomial.

    Exact for all input, so that it does not matter who computes them where. Several threads may call it at once.
    """

    def __call__(self, polynomials: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Each of the polynomials times the small one: uint32 [k, 2048] to a new uint32 [k, 2048], modulo 2^32."""
        ...


# The multiplier by a small polynomial, int64 [2048]. Raises what `spectrum` raises.
MakeMultiplier: TypeAlias = Callable[[NDArray[np.int64]], Multiplier]


def spectrum(small: NDArray[np.int64]) -> NDArray[np.complex128]:
    """The transform of a small polynomial, complex [1024], with the 1/1024 of the inverse transform in it.

    Args:
        small: int64 [2048], each coefficient within 32 * 1,024 of zero.

    Raises:
        OutOfRange: a coefficient is larger, so that a product might not be exact.
        ValueError: not 2,048 integers.
    """
    if small.shape != (N,) or small.dtype.kind != "i":
        raise ValueError(f"the small polynomial has {N} integers, not {small.dtype} {small.shape}")
    if small.min() < -SMALL_LIMIT or small.max() > SMALL_LIMIT:
        raise OutOfRange(f"a coefficient of the small polynomial is farther than {SMALL_LIMIT} from zero")
    folded = (small[:_HALF] + 1j * small[_HALF:]) * TWIST
    values: NDArray[np.complex128] = fft.fft(folded, norm="forward")
    return values


class FftMultiplier:
    """The `Multiplier` that runs everywhere, on the core of the thread that calls it.

    Args and Raises: as `spectrum`.
    """

    __slots__ = ("_spectrum",)

    def __init__(self, small: NDArray[np.int64]) -> None:
        self._spectrum = spectrum(small)

    def __call__(self, polynomials: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """See `Multiplier`."""
        products = np.empty(polynomials.shape, np.uint32)
        for start in range(0, len(polynomials), _BLOCK):
            self._multiply(polynomials[start : start + _BLOCK], products[start : start + _BLOCK])
        return products

    def _multiply(self, block: NDArray[np.uint32], products: NDArray[np.uint32]) -> None:
        values = np.empty((2, len(block), _HALF), np.complex128)
        for limb, half in zip(values, (block & 0xFFFF, block >> 16), strict=True):
            limb.real, limb.imag = half[:, :_HALF], half[:, _HALF:]
        values *= TWIST
        values = fft.fft(values, overwrite_x=True)
        values *= self._spectrum
        values = fft.ifft(values, norm="forward", overwrite_x=True)
        values *= TWIST.conj()
        parts = values.view(np.float64)
        parts += _ROUNDER
        low, high = parts.view(np.uint64).astype(np.uint32)
        high <<= 16
        low += high
        products[:, :_HALF], products[:, _HALF:] = low[:, 0::2], low[:, 1::2]
