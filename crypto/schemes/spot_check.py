"""Spot checks: a site opens one part of a round again, and compares it with the published model (protocol, section 6).

Only under `lwe-shamir` may a site see the bodies of others. A body is RLWE under a secret drawn for this one
contribution, of which each member holds a share: fewer than the threshold of them say nothing about it. What all
members know is the sum of the secrets, and it opens the sum of the bodies alone, which is public anyway. Under the
CKKS schemes a member holds the key of all key parts, and with another site's body it would read that site's update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crypto import lwe
from crypto.errors import Malformed, OpeningRefused
from crypto.lanes import LaneFormat, OpenedCounts, decode_counts, decode_real
from crypto.layout import Layout
from crypto.manifest import Ballot
from crypto.plan import Plan
from crypto.schemes.contribution import check_contributors, check_layout
from crypto.schemes.weights import divisor
from crypto.vector import VectorShape


@dataclass(frozen=True, slots=True)
class OpenedPart:
    """What one part of the sum says.

    Attributes:
        values: their place in the flat vector of the layout; empty in an evaluation round.
        mean: float32, the mean update of these values.
        counts: sums over the contributors, from the parts with count lanes.
    """

    values: slice
    mean: NDArray[np.float32]
    counts: OpenedCounts

    def wrong_values(self, base: NDArray[np.float32], published: NDArray[np.float32]) -> int:
        """How many values of the published model are not those of the base model plus the mean, to the last bit.

        Both sides add in float32, so honest ones agree exactly.

        Args:
            base, published: float32 [layout.size].
        """
        return int((base[self.values] + self.mean != published[self.values]).sum())


def checkable(plan: Plan) -> bool:
    """Whether sites may check the rounds of this plan so: also, the coordinator has to have published a model."""
    return plan.scheme == "lwe-shamir" and plan.release == "open"


def choices(plan: Plan, layout: Layout) -> int:
    """How many parts there are to choose from, numbered from 0: those with values; in an evaluation round, one."""
    shape = _shape(plan, layout)
    return -(-shape.real_polynomials // shape.per_part) or 1


def parts_needed(plan: Plan, layout: Layout, part: int) -> tuple[int, ...]:
    """The numbers of the parts that a check of `part` takes: itself, and those with count lanes, for the divisor."""
    return tuple(sorted({part, *_count_parts(_shape(plan, layout))}))


def open_part(
    plan: Plan,
    layout: Layout,
    ballot: Ballot,
    part: int,
    totals: Mapping[int, bytes | memoryview],
    secret_sum: Sequence[int],
) -> OpenedPart:
    """Mean and counts of one part, as `crypto.schemes.base.Scheme.reveal` makes them of the whole sum.

    Args:
        part: its number.
        totals: the summed bytes of `parts_needed`, by number.
        secret_sum: 2,048 integers, as `crypto.schemes.base.Scheme.combine` gives them.

    Raises:
        OpeningRefused: the sum of secrets, canaries, counts or weights show that something is wrong.
        Malformed: a part of the wrong size.
        WrongDigest: the layout is not the plan's.
    """
    check_layout(plan, layout)
    contributors = len(ballot.manifests)
    check_contributors(plan, contributors)
    secrets = np.array(secret_sum, np.int64)
    lwe.check_secret_sum(secrets, contributors)
    unsealer, shape, lane_format = lwe.Unsealer(plan.study, secrets), _shape(plan, layout), LaneFormat(plan.k_max)
    lanes = {}
    for number in parts_needed(plan, layout, part):
        if len(totals[number]) != shape.part_bytes(number):
            raise Malformed(f"part {number} has {shape.part_bytes(number)} bytes, its sum {len(totals[number])}")
        lanes[number] = unsealer.unseal_part(number, np.frombuffer(totals[number], "<u4"))
    digits = np.concatenate([lanes[number][shape.pieces(number)[3]] for number in _count_parts(shape)])
    counts = OpenedCounts.from_vector(decode_counts(digits, shape.counts, lane_format), len(layout.tensors))
    weight = divisor(plan, counts, contributors)
    if not weight > 0.0:
        raise OpeningRefused("the weights of the contributors add up to nothing: a malformed contribution")
    values, place, _, _ = shape.pieces(part)
    mean = decode_real(lanes[part][place], values.start, layout, plan.bounds, lane_format, weight)
    return OpenedPart(values, mean.astype(np.float32), counts)


def _count_parts(shape: VectorShape) -> range:
    """The parts with count lanes: the last one, of a recipe with very many counts the last few."""
    return range(shape.real_polynomials // shape.per_part, shape.parts)


def _shape(plan: Plan, layout: Layout) -> VectorShape:
    return VectorShape.of(layout, evaluation_only=plan.kind == "evaluation")
