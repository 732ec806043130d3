"""What `lwe-ckks` and `lwe-shamir` share: RLWE for the bulk, opened with the sum of secrets (protocol, section 2).

They differ in how a secret is sealed to those who open, and so in what becomes of it until the sum is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crypto import lwe
from crypto.ckks_public import PublicContext
from crypto.errors import Malformed
from crypto.lanes import LaneFormat
from crypto.layout import Layout
from crypto.plan import Plan
from crypto.ring import MakeMultiplier
from crypto.schemes.base import Revealed, Sealed
from crypto.schemes.contribution import (
    Contribution,
    SealedContribution,
    check_contributors,
    check_layout,
    revealed,
)
from crypto.schemes.weights import divisor
from crypto.vector import VectorShape

SealSecret: TypeAlias = Callable[[NDArray[np.int64]], tuple[bytes, ...]]  # a secret, int64 [2048], to its key parts


class LweBulk:
    """Everything of a `crypto.schemes.base.Scheme` but its key parts."""

    def part_sizes(self, plan: Plan, layout: Layout) -> tuple[int, ...]:
        shape = _shape(plan, layout)
        return tuple(shape.part_bytes(index) for index in range(shape.parts))

    def opened_sizes(self, plan: Plan, layout: Layout) -> tuple[int, ...]:
        return ()

    def check_part(
        self,
        plan: Plan,
        layout: Layout,
        number: int,
        data: bytes | memoryview,
        public: PublicContext | None = None,
    ) -> None:
        """Any bytes of the right number may be a part: it looks uniformly random."""
        size = _shape(plan, layout).part_bytes(number)
        if len(data) != size:
            raise Malformed(f"part {number} has {size} bytes under this plan, this one {len(data)}")

    def adder(self, plan: Plan, layout: Layout, number: int, public: PublicContext | None = None) -> LweAdder:
        return LweAdder(_shape(plan, layout).part_values(number))

    def reveal(
        self,
        plan: Plan,
        layout: Layout,
        totals: Iterable[bytes | memoryview],
        secret_sum: Sequence[int],
        contributors: int,
    ) -> Revealed:
        check_layout(plan, layout)
        check_contributors(plan, contributors)
        secrets = np.array(secret_sum, np.int64)
        lwe.check_secret_sum(secrets, contributors)
        mean, counts = lwe.unseal_parts(
            lwe.Unsealer(plan.study, secrets),
            (np.frombuffer(total, "<u4") for total in totals),
            _shape(plan, layout),
            layout,
            plan.bounds,
            LaneFormat(plan.k_max),
            lambda counts: divisor(plan, counts, contributors),
        )
        return revealed(plan, mean, counts, contributors)


class LweAdder:
    """See `crypto.schemes.base.Adder`: element-wise addition modulo 2^32 of `values` integers."""

    def __init__(self, values: int) -> None:
        self._total = np.zeros(values, np.uint32)

    def add(self, part: bytes | memoryview) -> None:
        if len(part) != self._total.nbytes:
            raise Malformed(f"this part has {len(part)} bytes, the others {self._total.nbytes}")
        lwe.add(self._total, np.frombuffer(part, "<u4"))

    def total(self) -> memoryview:
        return self._total.astype("<u4", copy=False).data.cast("B")


def seal_contribution(
    plan: Plan,
    layout: Layout,
    update: NDArray[np.float32] | None,
    samples: int,
    recipe_counts: Sequence[int],
    seal_secret: SealSecret,
    multiplier: MakeMultiplier,
) -> Sealed:
    """As `crypto.schemes.base.Scheme.seal`; `seal_secret` makes the key parts."""
    lane_format = LaneFormat(plan.k_max)
    contribution = Contribution(plan, layout, update, samples, recipe_counts, lane_format)
    sealer = lwe.Sealer.fresh(plan.study, multiplier)
    key_parts = seal_secret(sealer.secret)
    parts = lwe.seal_parts(sealer, contribution.encoder, contribution.counts, _shape(plan, layout), lane_format)
    octets = (part.astype("<u4", copy=False).data.cast("B") for part in parts)
    return SealedContribution(contribution, octets, key_parts)


def _shape(plan: Plan, layout: Layout) -> VectorShape:
    return VectorShape.of(layout, evaluation_only=plan.kind == "evaluation")
