"""What `lwe-ckks` and `lwe-shamir` share: RLWE for the bulk, opened with the sum of secrets (protocol, section 2).

They differ in how a secret is sealed to those who open, and so in what becomes of it until the sum is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crypto import lwe
from crypto.errors import Malformed, OpeningRefused, OutOfRange, WrongDigest
from crypto.lanes import LaneFormat, OpenedCounts, RealEncoder, check_bounds, count_vector
from crypto.layout import Layout
from crypto.plan import Plan
from crypto.schemes.base import Revealed, Sealed
from crypto.vector import VectorShape

SealSecret: TypeAlias = Callable[[NDArray[np.int64]], tuple[bytes, ...]]  # a secret, int64 [2048], to its key parts


class LweBulk:
    """Everything of a `crypto.schemes.base.Scheme` but its key parts."""

    def part_sizes(self, plan: Plan, layout: Layout) -> tuple[int, ...]:
        shape = _shape(plan, layout)
        return tuple(shape.part_bytes(index) for index in range(shape.parts))

    def add(self, total: NDArray[np.uint32], part: bytes | memoryview) -> None:
        if memoryview(part).nbytes != total.nbytes:
            raise Malformed(f"this part has {memoryview(part).nbytes} bytes, the others {total.nbytes}")
        lwe.add(total, np.frombuffer(part, "<u4"))

    def reveal(
        self,
        plan: Plan,
        layout: Layout,
        totals: Iterable[NDArray[np.uint32]],
        secret_sum: Sequence[int],
        contributors: int,
    ) -> Revealed:
        _check_layout(plan, layout)
        if not 1 <= contributors <= plan.k_max:
            raise OutOfRange(f"{contributors} contributions cannot be opened: the plan admits 1 to {plan.k_max}")
        secrets = np.array(secret_sum, np.int64)
        lwe.check_secret_sum(secrets, contributors)

        def divisor(counts: OpenedCounts) -> float:
            return _weight_sum(plan, counts, contributors) if plan.kind == "training" else 1.0

        mean, counts = lwe.unseal_parts(
            lwe.Unsealer(plan.study, secrets),
            totals,
            _shape(plan, layout),
            layout,
            plan.bounds,
            LaneFormat(plan.k_max),
            divisor,
        )
        return Revealed(
            mean if plan.kind == "training" else None, counts, weight_sum=_weight_sum(plan, counts, contributors)
        )


def seal_contribution(
    plan: Plan,
    layout: Layout,
    update: NDArray[np.float32] | None,
    samples: int,
    recipe_counts: Sequence[int],
    seal_secret: SealSecret,
) -> Sealed:
    """As `crypto.schemes.base.Scheme.seal`; `seal_secret` makes the key parts."""
    _check_layout(plan, layout)
    return _SealedContribution(lwe.Sealer.fresh(plan.study), plan, layout, update, samples, recipe_counts, seal_secret)


class _SealedContribution:
    """See `crypto.schemes.base.Sealed`. The secret is gone once the last part was made."""

    def __init__(
        self,
        sealer: lwe.Sealer,
        plan: Plan,
        layout: Layout,
        update: NDArray[np.float32] | None,
        samples: int,
        recipe_counts: Sequence[int],
        seal_secret: SealSecret,
    ) -> None:
        if (plan.kind == "training") != (update is not None):
            raise ValueError(f"a plan for {plan.kind} and {'no' if update is None else 'an'} update")
        lane_format = LaneFormat(plan.k_max)
        encoder = None
        if update is not None:
            encoder = RealEncoder(update, layout, plan.bounds, weight(plan, samples), lane_format)
        self._encoder, self._tensors = encoder, len(layout.tensors)
        self._whole = False
        self.key_parts = seal_secret(sealer.secret)
        self._parts: Iterator[NDArray[np.uint32]] | None = lwe.seal_parts(
            sealer,
            encoder,
            lambda: count_vector(samples, plan.n_max, self._clipped(), recipe_counts),
            _shape(plan, layout),
            lane_format,
        )

    def __iter__(self) -> Iterator[memoryview]:
        parts, self._parts = self._parts, None
        if parts is None:
            raise ValueError("a contribution is sealed once: its parts cannot be made again, keep those that were")
        for part in parts:
            yield part.astype("<u4", copy=False).data.cast("B")
        self._whole = True

    @property
    def clipped(self) -> tuple[int, ...]:
        self._check_whole()
        return self._clipped()

    @property
    def residual(self) -> NDArray[np.float32] | None:
        self._check_whole()
        return None if self._encoder is None else self._encoder.residual

    def _clipped(self) -> tuple[int, ...]:
        return (0,) * self._tensors if self._encoder is None else tuple(self._encoder.clipped)

    def _check_whole(self) -> None:
        if not self._whole:
            raise ValueError("what clipping cut off is known once all parts were sealed")


def weight(plan: Plan, samples: int) -> float:
    """The weight of a contribution of that many samples: 1 where the plan weighs all sites alike."""
    return 1.0 if plan.weighting == "equal" else min(samples, plan.n_max) / plan.n_max


def _weight_sum(plan: Plan, counts: OpenedCounts, contributors: int) -> float:
    if counts.capped_samples > contributors * plan.n_max:
        raise OpeningRefused("the contributors' weights add up to more than the plan admits: a malformed contribution")
    return float(contributors) if plan.weighting == "equal" else counts.capped_samples / plan.n_max


def _shape(plan: Plan, layout: Layout) -> VectorShape:
    return VectorShape.of(layout, evaluation_only=plan.kind == "evaluation")


def _check_layout(plan: Plan, layout: Layout) -> None:
    if layout.digest != plan.layout:
        raise WrongDigest("these tensors and counts are not the layout that the plan names by its digest")
    try:
        check_bounds(plan.bounds, layout)
    except ValueError:
        raise Malformed(f"the plan has {len(plan.bounds)} bounds, its layout {len(layout.tensors)} tensors") from None
