"""What all schemes do with a contribution besides sealing its lanes: check, weigh, clip, and take the mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from crypto.errors import Malformed, OutOfRange, WrongDigest
from crypto.lanes import NumberFormat, OpenedCounts, RealEncoder, check_bounds, count_vector
from crypto.layout import Layout
from crypto.plan import Plan
from crypto.schemes.base import Revealed
from crypto.schemes.weights import weight, weight_sum, weight_units


class Contribution:
    """What one site puts in: its update, clipped as it is read, and its counts.

    Args: as `crypto.schemes.base.Scheme.seal`.
    """

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        update: NDArray[np.float32] | None,
        samples: int,
        recipe_counts: Sequence[int],
        number_format: NumberFormat,
    ) -> None:
        check_layout(plan, layout)
        if (plan.kind == "training") != (update is not None):
            raise ValueError(f"a plan for {plan.kind} and {'no' if update is None else 'an'} update")
        units = weight_units(plan, layout, samples, recipe_counts)
        self.encoder: RealEncoder | None = None
        if update is not None:
            self.encoder = RealEncoder(update, layout, plan.bounds, weight(plan, units), number_format)
        self._tensors, self._units = len(layout.tensors), units
        self._samples, self._recipe = samples, recipe_counts

    @property
    def clipped(self) -> tuple[int, ...]:
        """Coordinates clipped so far, for each tensor."""
        return (0,) * self._tensors if self.encoder is None else tuple(self.encoder.clipped)

    def counts(self) -> list[int]:
        """The counts to seal, once all values were read."""
        return count_vector(self._samples, self._units, self.clipped, self._recipe)


class SealedContribution:
    """See `crypto.schemes.base.Sealed`. What seals the parts, and its secret, is gone once the last part was made."""

    def __init__(
        self, contribution: Contribution, parts: Iterator[bytes | memoryview], key_parts: tuple[bytes, ...]
    ) -> None:
        self._contribution, self._whole = contribution, False
        self._parts: Iterator[bytes | memoryview] | None = parts
        self.key_parts = key_parts

    def __iter__(self) -> Iterator[bytes | memoryview]:
        parts, self._parts = self._parts, None
        if parts is None:
            raise ValueError("a contribution is sealed once: its parts cannot be made again, keep those that were")
        yield from parts
        self._whole = True

    @property
    def clipped(self) -> tuple[int, ...]:
        self._check_whole()
        return self._contribution.clipped

    @property
    def residual(self) -> NDArray[np.float32] | None:
        self._check_whole()
        return None if self._contribution.encoder is None else self._contribution.encoder.residual

    def _check_whole(self) -> None:
        if not self._whole:
            raise ValueError("what clipping cut off is known once all parts were sealed")


def revealed(plan: Plan, mean: NDArray[np.float32], counts: OpenedCounts, contributors: int) -> Revealed:
    """What the round makes public."""
    training = plan.kind == "training"
    return Revealed(mean if training else None, counts, weight_sum(plan, counts, contributors))


def check_layout(plan: Plan, layout: Layout) -> None:
    """Raise unless the layout is the plan's, with a bound for each tensor.

    Raises:
        WrongDigest, Malformed, OutOfRange: it is not; the plan has more or fewer bounds; one that lanes cannot carry.
    """
    if layout.digest != plan.layout:
        raise WrongDigest("these tensors and counts are not the layout that the plan names by its digest")
    try:
        check_bounds(plan.bounds, layout)
    except ValueError:
        raise Malformed(f"the plan has {len(plan.bounds)} bounds, its layout {len(layout.tensors)} tensors") from None


def check_contributors(plan: Plan, contributors: int) -> None:
    """Raise unless the plan admits so many.

    Raises:
        OutOfRange: it does not.
    """
    if not 1 <= contributors <= plan.k_max:
        raise OutOfRange(f"{contributors} contributions cannot be opened: the plan admits 1 to {plan.k_max}")
