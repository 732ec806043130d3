"""The one interface of all aggregation schemes, without anything that needs a secret key.

A site calls `seal`, the coordinator `check_part`, `adder` and `reveal`. Opening is a site's too, but lives apart in
`crypto.schemes.opening`, because it imports the secret half of CKKS and the coordinator imports this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from crypto.ckks_public import PublicContext
from crypto.lanes import OpenedCounts
from crypto.layout import Layout
from crypto.manifest import Answer, BodyOpening
from crypto.plan import Plan, Roster
from crypto.ring import FftMultiplier, MakeMultiplier


@dataclass(frozen=True, slots=True)
class Recipients:
    """Under `lwe-shamir` all members of the plan's roster get a share each, the sender included."""

    roster: Roster
    sender: UUID


class Sealed(Protocol):
    """A contribution being sealed: iterate once over its parts, then read the rest.

    Attributes, all complete once the iteration has ended:
        key_parts: to upload beside the body.
        clipped: coordinates cut off, for each tensor.
        residual: float32 [layout.size], what was cut off, in units of the update; None without an update. To be kept
            on the site and added to its next update once this attempt completes with the site in it.
    """

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """Body parts in order, as bytes."""
        ...

    @property
    def key_parts(self) -> tuple[bytes, ...]: ...

    @property
    def clipped(self) -> tuple[int, ...]: ...

    @property
    def residual(self) -> NDArray[np.float32] | None: ...


class Adder(Protocol):
    """Adds up the same part of several contributions. Memory is two parts, for any number of them."""

    def add(self, part: bytes | memoryview) -> None:
        """Add one more.

        Raises:
            Malformed: no such part; the sum is then of no use.
        """
        ...

    def total(self) -> bytes | memoryview:
        """The sum, to be stored and opened."""
        ...


@dataclass(frozen=True, slots=True)
class SecretSum:
    """What the answers to a ballot open to.

    Attributes:
        values: the sum of the contributors' secrets, 2,048 integers, for `reveal`; none under `ckks`.
        wrong: sites whose answer is not the one that the others determine, sorted by id. It may be their own doing or
            a contributor's that sealed them another share than it should have: where there are many, rather the latter.
        body: under `ckks`, the opener's answer: it uploaded what `reveal` then takes in place of the summed parts.
    """

    values: tuple[int, ...] = field(repr=False)
    wrong: tuple[UUID, ...]
    body: BodyOpening | None = None

    @property
    def opened(self) -> tuple[str, ...]:
        """SHA-256 of each opened part; none but under `ckks`."""
        return () if self.body is None else self.body.parts


@dataclass(frozen=True, slots=True)
class Revealed:
    """What a round makes public.

    Attributes:
        mean: float32 [layout.size], the weighted mean update; None in an evaluation round.
        counts: sums over the contributors.
        weight_sum: the sum of their weights.
    """

    mean: NDArray[np.float32] | None
    counts: OpenedCounts
    weight_sum: float


class Scheme(Protocol):
    """How a round's contributions are sealed, added and revealed. The plan says under which numbers."""

    @property
    def trust(self) -> str:
        """For people: against whom this scheme protects an update."""
        ...

    def part_sizes(self, plan: Plan, layout: Layout) -> tuple[int, ...]:
        """Bytes of each body part, in order, at most; under RLWE just these. See `check_part`."""
        ...

    def opened_sizes(self, plan: Plan, layout: Layout) -> tuple[int, ...]:
        """Bytes of each opened part that an opener uploads; empty where its answer says all there is to say."""
        ...

    def key_part_limit(self, plan: Plan) -> int:
        """Most bytes a key part may have."""
        ...

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
        """A contribution under fresh keys from the operating system.

        Args:
            update: float32 [layout.size]; None in an evaluation round.
            samples: cases that the update was trained on, from 1 in a training round.
            recipe_counts: the layout's counts, flat, each below 2^24.
            to: whom the key parts are sealed to: the epoch's public context, accepted under the record that the plan
                names; under `lwe-shamir` the plan's roster.
            multiplier: what makes RLWE's products, where another device than the processor does it sooner. The result
                is the same; `ckks` has none to make.

        Raises:
            WrongDigest: the layout is not the plan's.
            OutOfRange: a number that lanes cannot carry, here or while iterating.
            ValueError: the arguments do not fit the plan.
        """
        ...

    def check_part(
        self,
        plan: Plan,
        layout: Layout,
        number: int,
        data: bytes | memoryview,
        public: PublicContext | None = None,
    ) -> None:
        """Raise unless `data` may be body part `number`, so that it can be added up later.

        Args:
            public: the epoch's public context, under `ckks`.

        Raises:
            Malformed: another size, or under `ckks` no ciphertexts of the right number, level, scale and slots.
            IndexError: there is no part of that number.
        """
        ...

    def adder(self, plan: Plan, layout: Layout, number: int, public: PublicContext | None = None) -> Adder:
        """What adds up body part `number`; `public` as in `check_part`."""
        ...

    def openings_needed(self, plan: Plan) -> int:
        """The fewest answers that open a ballot."""
        ...

    def combine(self, plan: Plan, roster: Roster, openings: Iterable[Answer]) -> SecretSum:
        """The sum of secrets that answers to one ballot give, their signatures verified. Each is looked at once.

        Raises:
            OpeningRefused: too few answers, or so many wrong ones that it cannot be told which.
            Malformed: the answers do not belong together, or are another scheme's.
        """
        ...

    def reveal(
        self,
        plan: Plan,
        layout: Layout,
        totals: Iterable[bytes | memoryview],
        secret_sum: Sequence[int],
        contributors: int,
    ) -> Revealed:
        """Mean and counts from what `combine` made of the answers to a ballot.

        Args:
            totals: the bytes of the summed parts, in order; under `ckks` of the opened parts, whose digests were
                checked.
            secret_sum: `SecretSum.values`.

        Raises:
            OpeningRefused: the sum of secrets or what it opens shows that something is wrong (`CanaryMismatch`,
                `NegativeCount`): no model may come of it.
            Malformed: parts of the wrong number or size.
            WrongDigest: the layout is not the plan's.
        """
        ...
