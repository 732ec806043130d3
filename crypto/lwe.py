"""Sealing by RLWE: c_j = a_j s + e_j + m_j, additive in the message and in the key (protocol, section 3).

Whoever knows the sum of the secrets of exactly the contributors opens the sum of their contributions, and nothing
else. The additive scheme for federated learning is Phong et al. 2018; secrets and errors as in `crypto.sampling`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from crypto.errors import Malformed, OpeningRefused
from crypto.lanes import LaneFormat, OpenedCounts, RealEncoder
from crypto.layout import Layout
from crypto.parallel import in_order
from crypto.parameters import PART_POLYNOMIALS, PART_VALUES, SECRET_BOUND, N
from crypto.ring import FftMultiplier, MakeMultiplier
from crypto.sampling import binomial, fresh_key, public_polynomials, public_seed
from crypto.vector import VectorShape, fill_parts, numbered, read_parts


def draw_secret(key: bytes | None = None) -> NDArray[np.int64]:
    """The secret polynomial of an AES-256 key, int64 [2048] within [-32, 32]; without a key, one from the system."""
    return binomial(key if key is not None else fresh_key(), 0, N).astype(np.int64)


class Sealer:
    """Seals one contribution of one site, part by part, in any order.

    It is a pure function of its keys: a part sealed again from the same messages is the same part. Keys belong to one
    contribution. Sealing two different messages as the same part would publish their difference.

    Args:
        study: names the public polynomials.
        secret_key: AES-256 key that s is expanded from, 32 bytes.
        error_key: another one, for the errors (with one key for both, e_0 would equal s).
        multiplier: makes the products; the result is the same with any.
    """

    __slots__ = ("_error_key", "_multiplier", "_secret", "_seed")

    def __init__(
        self, study: uuid.UUID, secret_key: bytes, error_key: bytes, multiplier: MakeMultiplier = FftMultiplier
    ) -> None:
        if secret_key == error_key:
            raise ValueError("secret and errors need a key each")
        self._seed = public_seed(study)
        self._error_key = error_key
        self._secret = draw_secret(secret_key)
        self._multiplier = multiplier(self._secret)

    @classmethod
    def fresh(cls, study: uuid.UUID, multiplier: MakeMultiplier = FftMultiplier) -> Sealer:
        """A sealer for a new contribution, with both keys from the operating system."""
        return cls(study, fresh_key(), fresh_key(), multiplier)

    def __repr__(self) -> str:
        return "Sealer(keys hidden)"

    @property
    def secret(self) -> NDArray[np.int64]:
        """s, int64 [2048]: what the key part carries. It opens this contribution alone: never log or store it."""
        return self._secret.copy()

    def seal_part(self, index: int, messages: NDArray[np.int32]) -> NDArray[np.uint32]:
        """Part `index` of the body, uint32 [m], m the length of the messages rounded up to whole polynomials.

        Args:
            index: number of the part, from 0.
            messages: int32 lanes, 1 to 1,048,576; zeros fill the last polynomial.

        Raises:
            ValueError: `messages` is not such an array.
        """
        if messages.ndim != 1 or messages.dtype != np.int32 or not 0 < messages.size <= PART_VALUES or index < 0:
            raise ValueError(f"a part has 1 to {PART_VALUES} int32 lanes, not {messages.dtype} {messages.shape}")
        first, count = index * PART_POLYNOMIALS, -(-messages.size // N)
        body = self._multiplier(public_polynomials(self._seed, first, count)).reshape(-1)
        body += binomial(self._error_key, first * N, count * N).view(np.uint32)
        body[: messages.size] += messages.view(np.uint32)
        return body


class Unsealer:
    """Opens a sum of contributions with the sum of their secrets, part by part, in any order.

    Args:
        study: names the public polynomials.
        secret_sum: int64 [2048], of exactly the contributors (see `check_secret_sum`).

    Raises:
        OutOfRange: a coefficient that no sum of 1,024 secrets has.
    """

    __slots__ = ("_multiplier", "_seed")

    def __init__(self, study: uuid.UUID, secret_sum: NDArray[np.int64]) -> None:
        self._seed = public_seed(study)
        self._multiplier = FftMultiplier(secret_sum)

    def __repr__(self) -> str:
        return "Unsealer(secret sum hidden)"

    def unseal_part(self, index: int, total: NDArray[np.uint32]) -> NDArray[np.int32]:
        """Sums of messages and errors of part `index`, int32, as long as `total`, uint32 of whole polynomials.

        Raises:
            Malformed: `total` is not a part.
        """
        if total.ndim != 1 or total.dtype != np.uint32 or total.size % N or not 0 < total.size <= PART_VALUES:
            raise Malformed(f"a part has whole polynomials of {N} uint32, not {total.dtype} {total.shape}")
        polynomials = public_polynomials(self._seed, index * PART_POLYNOMIALS, total.size // N)
        mask = self._multiplier(polynomials).reshape(-1)
        return np.subtract(total, mask, out=mask).view(np.int32)


def add(total: NDArray[np.uint32], part: NDArray[np.uint32]) -> None:
    """Add a contribution's part to the sum in place, modulo 2^32.

    Raises:
        Malformed: the two are not uint32 arrays of one length.
    """
    if total.shape != part.shape or total.dtype != np.uint32 or part.dtype != np.uint32:
        raise Malformed(f"a part of {part.dtype} {part.shape} cannot be added to one of {total.dtype} {total.shape}")
    np.add(total, part, out=total)


def check_secret_sum(secret_sum: NDArray[np.int64], contributors: int) -> None:
    """Raise unless `secret_sum` may be the sum of that many secrets.

    Raises:
        OpeningRefused: not 2,048 integers, or one is farther than 32 a contributor from zero.
    """
    if secret_sum.shape != (N,) or secret_sum.dtype.kind != "i":
        raise OpeningRefused(f"a sum of secrets is {N} integers, not {secret_sum.dtype} {secret_sum.shape}")
    limit = SECRET_BOUND * contributors
    if secret_sum.min() < -limit or secret_sum.max() > limit:
        raise OpeningRefused(f"a sum of {contributors} secrets stays within {limit} of zero; this one does not")


def seal_parts(
    sealer: Sealer,
    encoder: RealEncoder | None,
    counts: Callable[[], Sequence[int]],
    shape: VectorShape,
    lane_format: LaneFormat,
    threads: int | None = None,
) -> Iterator[NDArray[np.uint32]]:
    """A whole contribution, part after part, on all cores (or `threads` of them) and in the memory of a few parts.

    Lanes are encoded in order and sealed side by side; the parts are the same for any number of threads.

    Args and Raises: as `crypto.vector.fill_parts`.
    """
    lanes = fill_parts(shape, encoder, counts, lane_format)
    return in_order(lambda part: sealer.seal_part(*part), lanes, threads)


def unseal_parts(
    unsealer: Unsealer,
    totals: Iterable[NDArray[np.uint32]],
    shape: VectorShape,
    layout: Layout,
    bounds: Sequence[float],
    lane_format: LaneFormat,
    total_weight: Callable[[OpenedCounts], float],
    threads: int | None = None,
) -> tuple[NDArray[np.float32], OpenedCounts]:
    """The mean update, float32 [shape.real], and the pooled counts, from the summed parts in their order.

    All cores (or `threads` of them) unseal; the result is the same for any number.

    Args: `total_weight` as in `crypto.vector.read_parts`.

    Raises:
        OpeningRefused: as `crypto.vector.read_parts`; so does a wrong sum of secrets show.
        Malformed: parts of the wrong number or size.
    """
    opened = in_order(lambda part: unsealer.unseal_part(*part), numbered(totals, shape), threads)
    return read_parts(opened, shape, layout, bounds, lane_format, total_weight)
