"""What sites sign once a ballot is open: what came of it, what travels sealed between them, and what a check found."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal
from uuid import UUID

from pydantic import Field

from crypto.parameters import COUNT_LIMIT, K_LIMIT
from crypto.plan import Positive
from crypto.wire import Digest, Message, SiteId, StudyId

_NOBODY: Final = UUID(int=0)
_Sum = Annotated[int, Field(ge=0, lt=COUNT_LIMIT * K_LIMIT)]


class Outcome(Message):
    """What a member made of a ballot itself, in a study released to its members only.

    Attributes:
        model: SHA-256 of the new model's file, which stays with the members; None after an evaluation round.
        size: bytes of that file; None with `model`.
        samples, capped_samples, clipped, recipe: the pooled counts, as in `crypto.lanes.OpenedCounts`.
    """

    kind_name: ClassVar[str] = "outcome"

    ballot: Digest
    site: SiteId
    model: Digest | None
    size: Positive | None
    samples: _Sum
    capped_samples: _Sum
    clipped: Annotated[tuple[_Sum, ...], Field(max_length=65536)]
    recipe: Annotated[tuple[_Sum, ...], Field(max_length=1 << 20)]

    @property
    def content(self) -> str:
        """What has to agree between members: everything but who says it."""
        return self.model_copy(update={"site": _NOBODY}).digest


class SealedAnswer(Message):
    """A member's answer to a ballot in an envelope for each member of the roster, in its order, by their SHA-256."""

    kind_name: ClassVar[str] = "sealed-answer"

    ballot: Digest
    site: SiteId
    envelopes: Annotated[tuple[Digest, ...], Field(min_length=1, max_length=K_LIMIT)]


class SealedModel(Message):
    """A model that the coordinator must not read, sealed by a member that has it to one that lacks it.

    `sha256` is that of the envelope.
    """

    kind_name: ClassVar[str] = "sealed-model"

    study: StudyId
    model: Digest
    holder: SiteId
    recipient: SiteId
    sha256: Digest


class SpotCheck(Message):
    """What a site found when it opened one part of a round itself and compared it with the published model."""

    kind_name: ClassVar[str] = "spot-check"

    ballot: Digest
    site: SiteId
    model: Digest
    part: Annotated[int, Field(ge=0, lt=65536)]
    result: Literal["match", "mismatch"]
    words: Annotated[str, Field(min_length=1, max_length=500)]
