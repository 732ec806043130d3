"""Where the lanes of a contribution lie: which values and counts are in which part (protocol, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from crypto.layout import Layout
from crypto.parameters import CANARIES, COUNT_DIGITS, PART_POLYNOMIALS, PART_VALUES, N


@dataclass(frozen=True, slots=True)
class VectorShape:
    """Where the lanes of one contribution lie: `real` values of the update (0 in an evaluation-only round), then
    `counts` numbers, in whole polynomials and in parts of 512 of them.
    """

    real: int
    counts: int

    @classmethod
    def of(cls, layout: Layout, *, evaluation_only: bool = False) -> VectorShape:
        """The shape under a layout; the counts are those of `OpenedCounts`."""
        return cls(0 if evaluation_only else layout.size, 2 + len(layout.tensors) + layout.counts_size)

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
        return -(-self.polynomials // PART_POLYNOMIALS)

    def part_values(self, index: int) -> int:
        """Values in part `index`: 1,048,576 in all but the last.

        Raises:
            IndexError: there is no such part.
        """
        if not 0 <= index < self.parts:
            raise IndexError(f"there are parts 0 to {self.parts - 1}, not {index}")
        return min(PART_VALUES, self.polynomials * N - index * PART_VALUES)

    def part_bytes(self, index: int) -> int:
        """Size of part `index`: 4 MiB in all but the last."""
        return 4 * self.part_values(index)

    def pieces(self, index: int) -> tuple[slice, slice, slice, slice]:
        """What part `index` holds: (update values, their place in the part, count lanes, their place in the part)."""
        size, start = self.part_values(index), index * PART_VALUES
        reals = _overlap(start, size, 0, self.real)
        return *reals, *_overlap(start, size, self.real_polynomials * N, self.count_lanes)


def _overlap(start: int, size: int, first: int, length: int) -> tuple[slice, slice]:
    """What of [first, first + length) lies in [start, start + size): as counted from `first`, and from `start`."""
    begin = max(start, first)
    end = max(begin, min(start + size, first + length))
    return slice(begin - first, end - first), slice(begin - start, end - start)
