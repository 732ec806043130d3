"""The one interface of all aggregation schemes, without anything that needs a secret key.

A site calls `seal`, the coordinator `add` and `reveal`. Opening is a site's too, but lives apart in
`crypto.schemes.opening`, because it imports the secret half of CKKS and the coordinator imports this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from crypto.ckks_public import PublicContext
from crypto.lanes import OpenedCounts
from crypto.layout import Layout
from crypto.manifest import Opening, ShareOpening
from crypto.plan import Plan, Roster

Answer: TypeAlias = Opening | ShareOpening  # to a ballot


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

    def __iter__(self) -> Iterator[memoryview]:
        """Body parts in order, as bytes."""
        ...

    @property
    def key_parts(self) -> tuple[bytes, ...]: ...

    @property
    def clipped(self) -> tuple[int, ...]: ...

    @property
    def residual(self) -> NDArray[np.float32] | None: ...


@dataclass(frozen=True, slots=True)
class SecretSum:
    """What the answers to a ballot open to.

    Attributes:
        values: the sum of the contributors' secrets, 2,048 integers, for `reveal`.
        wrong: sites whose answer is not the one that the others determine, sorted by id. It may be their own doing or
            a contributor's that sealed them another share than it should have: where there are many, rather the latter.
    """

    values: tuple[int, ...] = field(repr=False)
    wrong: tuple[UUID, ...]


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

    def part_sizes(self, plan: Plan, layout: Layout) -> tuple[int, ...]:
        """Bytes of each body part, in order; every contribution of the round has just these."""
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
    ) -> Sealed:
        """A contribution under fresh keys from the operating system.

        Args:
            update: float32 [layout.size]; None in an evaluation round.
            samples: cases that the update was trained on, from 1 in a training round.
            recipe_counts: the layout's counts, flat, each below 2^24.
            to: whom the key parts are sealed to: the epoch's public context, accepted under the record that the plan
                names; under `lwe-shamir` the plan's roster.

        Raises:
            WrongDigest: the layout is not the plan's.
            OutOfRange: a number that lanes cannot carry, here or while iterating.
            ValueError: the arguments do not fit the plan.
        """
        ...

    def add(self, total: NDArray[np.uint32], part: bytes | memoryview) -> None:
        """Add a part's bytes to the sum of the same part of other contributions, in place.

        Raises:
            Malformed: a part of another size.
        """
        ...

    def openings_needed(self, plan: Plan) -> int:
        """The fewest answers that open a ballot."""
        ...

    def combine(self, plan: Plan, roster: Roster, openings: Sequence[Answer]) -> SecretSum:
        """The sum of secrets that answers to one ballot give, their signatures verified.

        Raises:
            OpeningRefused: too few answers, or so many wrong ones that it cannot be told which.
            Malformed: the answers do not belong together, or are another scheme's.
        """
        ...

    def reveal(
        self,
        plan: Plan,
        layout: Layout,
        totals: Iterable[NDArray[np.uint32]],
        secret_sum: Sequence[int],
        contributors: int,
    ) -> Revealed:
        """Mean and counts from the summed parts, in order, and an opening's sum of secrets.

        Raises:
            OpeningRefused: the sum of secrets or what it opens shows that something is wrong (`CanaryMismatch`,
                `NegativeCount`): no model may come of it.
            Malformed: parts of the wrong number or size.
            WrongDigest: the layout is not the plan's.
        """
        ...
