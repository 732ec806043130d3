"""`ckks`: whole updates under CKKS, for an honest-but-curious coordinator only (protocol, sections 2 and 6).

What is opened is whatever the coordinator serves as the sum: one that serves a single contribution gets it opened, and
no site can tell. `crypto.schemes.opening` has the sites' side of opening.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crypto import ckks_body
from crypto.ckks_public import PublicContext
from crypto.errors import Malformed, OpeningRefused
from crypto.layout import Layout
from crypto.manifest import Answer, BodyOpening
from crypto.parameters import CKKS_CANARY_LIMIT, CKKS_PART_CIPHERTEXTS
from crypto.plan import Plan, Roster
from crypto.ring import FftMultiplier, MakeMultiplier
from crypto.schemes.base import Recipients, Revealed, Sealed, SecretSum
from crypto.schemes.contribution import (
    Contribution,
    SealedContribution,
    check_contributors,
    check_layout,
    revealed,
)
from crypto.schemes.weights import divisor
from crypto.slots import SlotFormat
from crypto.vector import VectorShape, fill_parts, numbered, read_parts


class Ckks:
    """See `crypto.schemes.base.Scheme`."""

    trust: Final = (
        "Protects each site's update from an honest-but-curious coordinator only: one that serves a single update as "
        "the sum gets it opened, and so does one that conspires with a member."
    )

    def part_sizes(self, plan: Plan, layout: Layout) -> tuple[int, ...]:
        shape = body_shape(plan, layout)
        return tuple(ckks_body.body_limit(shape.part_polynomials(index)) for index in range(shape.parts))

    def opened_sizes(self, plan: Plan, layout: Layout) -> tuple[int, ...]:
        shape = body_shape(plan, layout)
        return tuple(shape.part_bytes(index) for index in range(shape.parts))

    def key_part_limit(self, plan: Plan) -> int:
        return 0

    def seal(
        self,
        plan: Plan,
        layout: Layout,
        update: NDArray[np.float32] | None,
        samples: int,
        recipe_counts: Sequence[int],
        to: PublicContext | Recipients,
        multiplier: MakeMultiplier = FftMultiplier,
    ) -> Sealed:
        public, slot_format = _needed(to), SlotFormat(plan.k_max)
        contribution = Contribution(plan, layout, update, samples, recipe_counts, slot_format)
        filled = fill_parts(body_shape(plan, layout), contribution.encoder, contribution.counts, slot_format)
        parts = (ckks_body.encrypt_part(public, slots, slot_format.scale_bits) for _, slots in filled)
        return SealedContribution(contribution, parts, ())

    def check_part(
        self,
        plan: Plan,
        layout: Layout,
        number: int,
        data: bytes | memoryview,
        public: PublicContext | None = None,
    ) -> None:
        ciphertexts = body_shape(plan, layout).part_polynomials(number)
        ckks_body.check_part(_needed(public), data, ciphertexts, SlotFormat(plan.k_max).scale_bits)

    def adder(
        self, plan: Plan, layout: Layout, number: int, public: PublicContext | None = None
    ) -> ckks_body.BodyAdder:
        ciphertexts = body_shape(plan, layout).part_polynomials(number)
        return ckks_body.BodyAdder(_needed(public), ciphertexts, SlotFormat(plan.k_max).scale_bits)

    def openings_needed(self, plan: Plan) -> int:
        return 1

    def combine(self, plan: Plan, roster: Roster, openings: Iterable[Answer]) -> SecretSum:
        """One opener's answer as it is: the parts that it names are what `reveal` takes."""
        answers = list(openings)
        if len(answers) != 1 or not isinstance(answers[0], BodyOpening):
            raise Malformed("a ballot under ckks is opened with the answer of one opener")
        return SecretSum((), (), answers[0])

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
        shape = body_shape(plan, layout)
        opened = (np.frombuffer(total, "<f4") for total in totals)
        mean, counts = read_parts(
            _checked((part for _, part in numbered(opened, shape)), contributors),
            shape,
            layout,
            plan.bounds,
            SlotFormat(plan.k_max),
            lambda counts: divisor(plan, counts, contributors),
        )
        return revealed(plan, mean, counts, contributors)


def body_shape(plan: Plan, layout: Layout) -> VectorShape:
    """Where the slots of a contribution lie: 64 ciphertexts a part."""
    return VectorShape.of(layout, evaluation_only=plan.kind == "evaluation", per_part=CKKS_PART_CIPHERTEXTS)


def check_slots(slots: NDArray[np.floating], contributors: int) -> None:
    """Raise unless so many contributors' slots, each within [-1, 1], may add up to these.

    Raises:
        OpeningRefused: one is out of reach, or no number.
    """
    if not (np.abs(slots) <= contributors + CKKS_CANARY_LIMIT * contributors).all():
        raise OpeningRefused(
            f"the opened sum has values that {contributors} contributions never add up to: one was made under another "
            "key, or is malformed"
        )


def _checked(parts: Iterable[NDArray[np.float32]], contributors: int) -> Iterator[NDArray[np.float32]]:
    for part in parts:
        check_slots(part, contributors)
        yield part


def _needed(public: PublicContext | Recipients | None) -> PublicContext:
    if not isinstance(public, PublicContext):
        raise TypeError("ckks seals, checks and adds under the epoch's public context")
    return public
