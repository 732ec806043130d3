"""A batch in parts, where it does not fit the device's memory: gradients add up to those of the whole."""

from __future__ import annotations

import logging
from itertools import pairwise

log = logging.getLogger(__name__)


class TooLittleMemory(Exception):
    """Not even one case fits the device's memory."""


class Parts:
    """How many cases go through the network at once: `most`, or whole batches without it; halved where it has to be.

    Loss and gradients add up to the whole batch's. Batch norm is the exception: it normalises each part by itself, and
    renews its running statistics once a part, so that a network with batch norm trains a little otherwise.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most

    def of(self, cases: int) -> list[slice]:
        """Consecutive parts of nearly the same size, none of a single case unless `most` is 1: batch norm learns
        nothing from one."""
        if self.most is None or cases <= self.most:
            return [slice(0, cases)]
        count = -(-cases // self.most)
        if self.most > 1:
            count = min(count, cases // 2)
        edges = [cases * number // count for number in range(count + 1)]
        return [slice(start, stop) for start, stop in pairwise(edges)]

    def halve(self, cases: int) -> None:
        """From now on take half of what was taken for a batch of `cases`.

        Raises:
            TooLittleMemory: there is nothing to halve.
        """
        tried = max(part.stop - part.start for part in self.of(cases))
        if tried <= 1:
            raise TooLittleMemory("not even one case fits the device's memory; take a smaller input.size, or the CPU")
        self.most = tried // 2
        log.warning(
            "%d cases at once do not fit the device's memory: %d from now on; to begin with that, set micro_batch = %d",
            tried, self.most, self.most,
        )  # fmt: skip
