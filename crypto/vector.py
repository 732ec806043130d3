"""Where the lanes of a contribution lie, and how parts are filled and read (protocol, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crypto.errors import Malformed, OpeningRefused
from crypto.lanes import NumberFormat, OpenedCounts, RealEncoder, decode_counts, decode_real, encode_counts
from crypto.layout import Layout
from crypto.parameters import CANARIES, COUNT_DIGITS, PART_POLYNOMIALS, N


@dataclass(frozen=True, slots=True)
class VectorShape:
    """Where the lanes of one contribution lie: `real` values of the update (0 in an evaluation-only round), then
    `counts` numbers, in whole polynomials (in CKKS: ciphertexts) of 2,048 lanes, and in parts of `per_part` of them.
    """

    real: int
    counts: int
    per_part: int = PART_POLYNOMIALS

    @classmethod
    def of(cls, layout: Layout, *, evaluation_only: bool = False, per_part: int = PART_POLYNOMIALS) -> VectorShape:
        """The shape under a layout; the counts are those of `OpenedCounts`."""
        return cls(0 if evaluation_only else layout.size, 2 + len(layout.tensors) + layout.counts_size, per_part)

    @property
    def count_lanes(self) -> int:
        return CANARIES + COUNT_DIGITS * self.counts

    @property
    def real_polynomials(self) -> int:
        return -(-self.real // N)

    @property
    def count_polynomials(self) -> int:
        return -(-self.count_lanes // N)

    @property
    def polynomials(self) -> int:
        return self.real_polynomials + self.count_polynomials

    @property
    def parts(self) -> int:
        return -(-self.polynomials // self.per_part)

    def part_polynomials(self, index: int) -> int:
        """Polynomials in part `index`: `per_part` in all but the last.

        Raises:
            IndexError: there is no such part.
        """
        if not 0 <= index < self.parts:
            raise IndexError(f"there are parts 0 to {self.parts - 1}, not {index}")
        return min(self.per_part, self.polynomials - index * self.per_part)

    def part_values(self, index: int) -> int:
        """Values in part `index`."""
        return self.part_polynomials(index) * N

    def part_bytes(self, index: int) -> int:
        """Size of part `index` at four bytes a value: 4 MiB in all but the last of RLWE."""
        return 4 * self.part_values(index)

    def pieces(self, index: int) -> tuple[slice, slice, slice, slice]:
        """What part `index` holds: (update values, their place in the part, count lanes, their place in the part)."""
        size, start = self.part_values(index), index * self.per_part * N
        reals = _overlap(start, size, 0, self.real)
        return *reals, *_overlap(start, size, self.real_polynomials * N, self.count_lanes)


def _overlap(start: int, size: int, first: int, length: int) -> tuple[slice, slice]:
    """What of [first, first + length) lies in [start, start + size): as counted from `first`, and from `start`."""
    begin = max(start, first)
    end = max(begin, min(start + size, first + length))
    return slice(begin - first, end - first), slice(begin - start, end - start)


def fill_parts(
    shape: VectorShape,
    encoder: RealEncoder | None,
    counts: Callable[[], Sequence[int]],
    number_format: NumberFormat,
) -> Iterator[tuple[int, NDArray[Any]]]:
    """The lanes of a contribution, part after part with its number, without a second copy of the update.

    Args:
        encoder: of the update, in `number_format`; None in an evaluation-only round.
        counts: asked once, after all real lanes were encoded, because only then is it known how many were clipped.

    Raises:
        OutOfRange: from the encoder and the counts.
        ValueError: encoder or counts do not fit the shape.
    """
    if (encoder is None) != (shape.real == 0):
        raise ValueError(f"an update of {shape.real} values and {'no' if encoder is None else 'an'} encoder for it")
    count_lanes: NDArray[Any] | None = None
    for index in range(shape.parts):
        lanes = np.zeros(shape.part_values(index), number_format.dtype)
        values, real_place, digits, count_place = shape.pieces(index)
        if encoder is not None and values.start < values.stop:
            lanes[real_place] = encoder.encode(values.start, values.stop)
        if digits.start < digits.stop:
            if count_lanes is None:
                count_lanes = _count_lanes(counts(), shape, number_format)
            lanes[count_place] = count_lanes[digits]
        yield index, lanes


def _count_lanes(counts: Sequence[int], shape: VectorShape, number_format: NumberFormat) -> NDArray[Any]:
    if len(counts) != shape.counts:
        raise ValueError(f"the layout has {shape.counts} counts, {len(counts)} were given")
    return encode_counts(counts, number_format)


def numbered(parts: Iterable[NDArray[Any]], shape: VectorShape) -> Iterator[tuple[int, NDArray[Any]]]:
    """Each part with its number.

    Raises:
        Malformed: parts of the wrong number or size.
    """
    count = 0
    for index, part in enumerate(parts):
        if index >= shape.parts or part.size != shape.part_values(index):
            raise Malformed(f"part {index} of {shape.parts} has {part.size} values, which does not fit the layout")
        yield index, part
        count = index + 1
    if count != shape.parts:
        raise Malformed(f"{count} of {shape.parts} parts were given")


def read_parts(
    opened: Iterable[NDArray[Any]],
    shape: VectorShape,
    layout: Layout,
    bounds: Sequence[float],
    number_format: NumberFormat,
    total_weight: Callable[[OpenedCounts], float],
) -> tuple[NDArray[np.float32], OpenedCounts]:
    """The mean update, float32 [shape.real], and the pooled counts, from the opened lanes of all parts in order.

    Memory is the result and a few parts.

    Args:
        opened: sums of lanes, in the format's dtype, as `fill_parts` lays them out.
        total_weight: the sum of the contributors' weights, from the opened counts: capped_samples / n_max, or the
            number of contributors where all weights are 1. With 1.0 the weighted sum is returned.

    Raises:
        OpeningRefused: canaries or counts show a malformed contribution or a wrong opening (`CanaryMismatch`,
            `NegativeCount`), or the weights add up to nothing.
    """
    mean = np.empty(shape.real, np.float32)
    sums = mean.view(number_format.dtype)  # the weights open last: until then the sums lie where the mean will
    count_lanes = np.empty(shape.count_lanes, number_format.dtype)
    for index, lanes in enumerate(opened):
        values, real_place, digits, count_place = shape.pieces(index)
        sums[values], count_lanes[digits] = lanes[real_place], lanes[count_place]
    counts = OpenedCounts.from_vector(decode_counts(count_lanes, shape.counts, number_format), len(layout.tensors))
    weight = total_weight(counts)
    if not weight > 0.0:
        raise OpeningRefused("the weights of the contributors add up to nothing: a malformed contribution")
    step = shape.per_part * N
    for start in range(0, shape.real, step):
        place = slice(start, min(start + step, shape.real))
        mean[place] = decode_real(sums[place], start, layout, bounds, number_format, weight)
    return mean, counts
