"""Numbers in slots of CKKS, for whole updates under the scheme `ckks` (docs/decisions/0006).

A slot holds w x / b, clipped to [-1, 1]: each tensor divided by its own bound, so that all have the same precision.
Counts follow in digits of eight bits, digit / 256 in a slot, after canaries as in the lanes of RLWE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crypto.errors import OutOfRange
from crypto.parameters import (
    CKKS_BODY_SCALE_BITS,
    CKKS_CANARY_LIMIT,
    CKKS_COUNT_BITS,
    CKKS_SUM_BITS,
    K_LIMIT,
)

_FLOAT32: Final = np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class SlotFormat:
    """The `crypto.lanes.NumberFormat` of CKKS, for sums of up to `k_max` contributions. Attributes as there.

    Raises:
        OutOfRange: `k_max` is not within 1..1,024.
    """

    k_max: int

    def __post_init__(self) -> None:
        if not 1 <= self.k_max <= K_LIMIT:
            raise OutOfRange(f"a round has room for 1 to {K_LIMIT} contributions, not {self.k_max}")

    @property
    def scale_bits(self) -> int:
        """Log2 of the scale: at most 40, and K_max times the scale is below 2^49, so that no sum wraps around."""
        return min(CKKS_BODY_SCALE_BITS, CKKS_SUM_BITS - self.k_max.bit_length())

    @property
    def Q(self) -> float:  # noqa: N802 - the protocol's name
        return 1.0

    @property
    def D(self) -> int:  # noqa: N802 - the protocol's name
        return CKKS_COUNT_BITS

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return _FLOAT32

    @property
    def canary_limit(self) -> float:
        return CKKS_CANARY_LIMIT

    def lanes_of(self, digits: NDArray[np.int64]) -> NDArray[np.float32]:
        return (digits / 2.0**CKKS_COUNT_BITS).astype(np.float32)

    def digits_of(self, lanes: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.rint(lanes.astype(np.float64) * 2.0**CKKS_COUNT_BITS).astype(np.int64)
