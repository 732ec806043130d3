"""Numbers to integers and back: real lanes, count lanes and canaries (protocol, section 4).

A contribution is one vector of lanes: the update's values in the layout's order, zeros up to the end of a polynomial,
then from a new polynomial on 64 canaries and the digits of the counts, zeros again. Sealing adds noise to each lane
and summing adds the lanes of up to K_max contributors; `LaneFormat` leaves room for both. The same vector in slots of
CKKS has another `NumberFormat`, `crypto.slots.SlotFormat`; all functions here take either.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crypto.errors import CanaryMismatch, NegativeCount, OutOfRange
from crypto.layout import Layout, Tensor
from crypto.parameters import (
    BUFFER_FALLS_TO,
    CANARIES,
    COUNT_DIGITS,
    COUNT_LIMIT,
    K_LIMIT,
    PARAMETER_FALLS_TO,
    SECRET_BOUND,
    SIGMA,
)

_TOO_MUCH, _HARDLY = 1e-3, 1e-5  # fractions of a tensor's coordinates that were clipped
_PIECE = 1 << 16  # values converted at a time: what that takes in doubles stays in the core's cache
_LOWEST_BOUND, _HIGHEST_BOUND = 2.0**-16, 2.0**32
_FALLS_TO = {"parameter": PARAMETER_FALLS_TO, "buffer": BUFFER_FALLS_TO}


class NumberFormat(Protocol):
    """How a contribution's numbers lie in what is sealed and summed."""

    @property
    def Q(self) -> float:  # noqa: N802 - the protocol's name
        """What a value at its bound is scaled to, and clipped at."""
        ...

    @property
    def D(self) -> int:  # noqa: N802 - the protocol's name
        """Bits of a count digit."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a lane, before sealing and after opening: four bytes. Values are rounded where it is an integer."""
        ...

    @property
    def canary_limit(self) -> float:
        """Largest absolute value at which a summed canary counts as zero."""
        ...

    def lanes_of(self, digits: NDArray[np.int64]) -> NDArray[Any]:
        """Digits of counts, each below 2^D, as lanes."""
        ...

    def digits_of(self, lanes: NDArray[Any]) -> NDArray[np.int64]:
        """Sums of digits from opened lanes, their noise rounded away."""
        ...


@dataclass(frozen=True, slots=True)
class LaneFormat:
    """How numbers lie in lanes when up to `k_max` contributions are added.

    Attributes:
        kappa: ceil(log2(k_max)), the bits that summing may take.
        Q: the largest real lane; k_max * (Q + 32) < 2^31, noise included.
        T: a count digit is shifted left by T, so that 2^(T-1) is at least 32 standard deviations of the summed noise.
        D: bits of a count digit.

    Raises:
        OutOfRange: `k_max` is not within 1..1,024.
    """

    k_max: int
    kappa: int = field(init=False)
    Q: int = field(init=False)
    T: int = field(init=False)
    D: int = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.k_max <= K_LIMIT:
            raise OutOfRange(f"a round has room for 1 to {K_LIMIT} contributors, not {self.k_max}")
        kappa = (self.k_max - 1).bit_length()
        root = math.ceil(kappa / 2)  # ceil(log2(sqrt(k_max)))
        object.__setattr__(self, "kappa", kappa)
        object.__setattr__(self, "Q", 2 ** (31 - kappa) - SECRET_BOUND - 1)
        object.__setattr__(self, "T", int(math.log2(SIGMA)) + root + 6)
        object.__setattr__(self, "D", 31 - kappa - self.T)

    @property
    def canary_limit(self) -> int:
        """Largest absolute value at which a summed canary counts as zero.

        Nothing but noise is in it: at most 32 a contributor, and from 16 contributors on less than half a digit step,
        which is what a digit lane takes for zero as well (32 standard deviations).
        """
        return int(min(SECRET_BOUND * self.k_max, 2 ** (self.T - 1)))

    @property
    def dtype(self) -> np.dtype[np.int32]:
        return np.dtype(np.int32)

    def lanes_of(self, digits: NDArray[np.int64]) -> NDArray[np.int32]:
        return (digits << self.T).astype(np.int32)

    def digits_of(self, lanes: NDArray[np.int32]) -> NDArray[np.int64]:
        return (lanes.astype(np.int64) + (1 << (self.T - 1))) >> self.T


class RealEncoder:
    """Turns an update into real lanes, slice after slice: clip(round(w x / b * Q), -Q, Q); slots are not rounded.

    Args:
        update: float32 [layout.size], read only.
        layout: the tensors of the update.
        bounds: b for each tensor, in units of the update.
        weight: w of this contribution, 0 < w <= 1.
        number_format: of the round.

    Attributes:
        clipped: coordinates clipped so far, for each tensor.
        residual: float32 [layout.size], what clipping cut off so far, in units of the update (x - (+-b / w) where
            clipped, else 0). It is added to the next update if this contribution was summed.

    Raises:
        OutOfRange: a weight or bound that lanes cannot carry.
        ValueError: update or bounds do not fit the layout.
    """

    def __init__(
        self,
        update: NDArray[np.float32],
        layout: Layout,
        bounds: Sequence[float],
        weight: float,
        number_format: NumberFormat,
    ) -> None:
        if update.shape != (layout.size,) or update.dtype != np.float32:
            raise ValueError(
                f"the layout has {layout.size} float32 values, the update is {update.dtype} {update.shape}"
            )
        if not 0.0 < weight <= 1.0:
            raise OutOfRange(f"a contribution's weight is above 0 and at most 1, not {weight}")
        check_bounds(bounds, layout)
        self._update, self._layout, self._position = update, layout, 0
        self._limit, self._dtype = number_format.Q, number_format.dtype
        self._scales = [weight / bound * number_format.Q for bound in bounds]
        self.clipped = [0] * len(layout.tensors)
        self.residual = np.zeros(layout.size, np.float32)

    def encode(self, start: int, stop: int) -> NDArray[Any]:
        """Lanes of the values [start, stop). Slices follow one another, so that each is counted once.

        Raises:
            OutOfRange: a value is NaN or infinite; the tensor is named.
            ValueError: the slice does not begin where the last one ended, or ends beyond the update.
        """
        if start != self._position or not start <= stop <= self._update.size:
            raise ValueError(f"values {start} to {stop} are asked for, those from {self._position} on come next")
        lanes = np.empty(stop - start, self._dtype)
        for number, tensor, place in _pieces(self._layout, start, stop):
            lanes[place.start - start : place.stop - start] = self._encode(number, tensor, place)
        self._position = stop
        return lanes

    def _encode(self, number: int, tensor: Tensor, place: slice) -> NDArray[np.float64]:
        values = self._update[place]
        if not np.isfinite(values).all():
            raise OutOfRange(f"the update of {tensor.name} holds a NaN or an infinity: was the learning rate too high?")
        scale = self._scales[number]
        lanes = np.multiply(values, scale, dtype=np.float64)
        if self._dtype.kind == "i":
            np.rint(lanes, out=lanes)
        clipped = np.flatnonzero(np.abs(lanes) > self._limit)
        if clipped.size:
            lanes.clip(-self._limit, self._limit, out=lanes)
            self.residual[place][clipped] = values[clipped] - lanes[clipped] / scale
            self.clipped[number] += clipped.size
        return lanes


def decode_real(
    opened: NDArray[Any],
    start: int,
    layout: Layout,
    bounds: Sequence[float],
    number_format: NumberFormat,
    total_weight: float = 1.0,
) -> NDArray[np.float64]:
    """Values [start, start + opened.size) of the weighted sum, opened / Q * b, divided by `total_weight`, float64."""
    values = np.empty(opened.size, np.float64)
    for number, _, place in _pieces(layout, start, start + opened.size):
        piece = slice(place.start - start, place.stop - start)
        scale = bounds[number] / (number_format.Q * total_weight)
        np.multiply(opened[piece], scale, out=values[piece], dtype=np.float64)
    return values


def _pieces(layout: Layout, start: int, stop: int) -> Iterator[tuple[int, Tensor, slice]]:
    """What of each tensor lies in [start, stop), in small pieces: its number, the tensor, their place in the vector."""
    for number, (tensor, place) in enumerate(layout.slices()):
        begin, end = max(start, place.start), min(stop, place.stop)
        for at in range(begin, end, _PIECE):
            yield number, tensor, slice(at, min(at + _PIECE, end))


def encode_counts(counts: Sequence[int], number_format: NumberFormat) -> NDArray[Any]:
    """Count lanes, [64 + 3 len(counts)]: zero canaries, then three digits a count, low first.

    Raises:
        OutOfRange: a count is negative or 2^24 or more.
    """
    for count in counts:
        if not 0 <= operator.index(count) < COUNT_LIMIT:
            raise OutOfRange(f"a count is at least 0 and below {COUNT_LIMIT}, not {count}")
    values = np.array(counts, np.int64).reshape(-1, 1)
    digits = (values >> (number_format.D * np.arange(COUNT_DIGITS))) & (2**number_format.D - 1)
    return np.concatenate([np.zeros(CANARIES, number_format.dtype), number_format.lanes_of(digits.ravel())])


def decode_counts(opened: NDArray[Any], number: int, number_format: NumberFormat) -> list[int]:
    """The sums of `number` counts, exact, from their opened lanes, [64 + 3 number].

    Raises:
        CanaryMismatch: a canary holds more than noise (`NumberFormat.canary_limit`).
        NegativeCount: a digit is below zero.
        ValueError: another number of lanes.
    """
    if opened.shape != (CANARIES + COUNT_DIGITS * number,):
        raise ValueError(f"{number} counts have {CANARIES + COUNT_DIGITS * number} lanes, not {opened.shape}")
    wrong = int((np.abs(opened[:CANARIES], dtype=np.float64) > number_format.canary_limit).sum())
    if wrong:
        raise CanaryMismatch(
            f"{wrong} of {CANARIES} canaries did not open to zero: a malformed contribution or a wrong opening"
        )
    digits = number_format.digits_of(opened[CANARIES:])
    if (digits < 0).any():
        raise NegativeCount("a digit of a count opened below zero: a malformed contribution")
    rows: list[list[int]] = digits.reshape(number, COUNT_DIGITS).tolist()  # Python integers: a forged sum may be huge
    return [sum(digit << (number_format.D * place) for place, digit in enumerate(row)) for row in rows]


@dataclass(frozen=True, slots=True)
class OpenedCounts:
    """The pooled counts of a round, each summed over its contributors.

    Attributes:
        capped_samples: sum of min(n_i, n_max), under dynamic weights of each site's share of it; divided by n_max it
            is the sum of the weights, unless all weigh alike.
        samples: sum of n_i.
        clipped: clipped coordinates for each tensor.
        recipe: the recipe's counts in the layout's order.
    """

    capped_samples: int
    samples: int
    clipped: tuple[int, ...]
    recipe: tuple[int, ...]

    @classmethod
    def from_vector(cls, vector: Sequence[int], tensors: int) -> OpenedCounts:
        """Inverse of `count_vector`, for a layout of `tensors` tensors."""
        capped, samples, *rest = vector
        return cls(capped, samples, tuple(rest[:tensors]), tuple(rest[tensors:]))


def count_vector(samples: int, limit: int, clipped: Sequence[int], recipe_counts: Sequence[int]) -> list[int]:
    """The counts of one contribution in the order in which they are sealed. `limit`: the most samples it weighs as."""
    return [min(samples, limit), samples, *clipped, *recipe_counts]


def check_bounds(bounds: Sequence[float], layout: Layout) -> None:
    """Raise unless there is one usable bound for each tensor.

    Raises:
        OutOfRange: a bound is not within 2^-16 and 2^32; the tensor is named.
        ValueError: another number of bounds than of tensors.
    """
    for tensor, bound in zip(layout.tensors, bounds, strict=True):
        if not _LOWEST_BOUND <= bound <= _HIGHEST_BOUND:
            raise OutOfRange(f"the bound of {tensor.name} is {bound}; bounds lie between 2^-16 and 2^32")


def adapt_bounds(
    bounds: Sequence[float],
    clipped: Sequence[int],
    layout: Layout,
    contributors: int,
    lowest: Sequence[float] | None = None,
) -> list[float]:
    """Bounds of the next plan after a round that carried an update, from public numbers only.

    More than 0.1 % of a tensor's coordinates clipped doubles its bound. Under 0.001 % halves it, but only while it is
    the lowest that the study has had: a bound may thus fall for a while, and once it had to grow it never falls again,
    so a tensor whose values all lie between b/2 and b does not send it up and down for ever. None falls below
    `PARAMETER_FALLS_TO` or `BUFFER_FALLS_TO`: falling until something is clipped would clip every tensor once.

    Args:
        lowest: for each tensor the smallest bound in any plan of the study, this one included; without it no bound
            falls.
    """
    floors = lowest if lowest is not None else [0.0] * len(bounds)
    adapted = []
    for tensor, bound, count, floor in zip(layout.tensors, bounds, clipped, floors, strict=True):
        fraction = count / (tensor.size * contributors)
        if fraction > _TOO_MUCH:
            adapted.append(min(2 * bound, _HIGHEST_BOUND))
        elif fraction < _HARDLY and bound <= floor:
            adapted.append(max(bound / 2, min(bound, _FALLS_TO[tensor.kind])))
        else:
            adapted.append(bound)
    return adapted
