"""The plan of one attempt at a round, and the roster it is made for: what all sites agree to before anyone seals."""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from uuid import UUID

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from crypto.parameters import K_LIMIT
from crypto.wire import Digest, Message, SiteId, StudyId

SchemeName = Literal["lwe-ckks", "lwe-shamir", "ckks"]
Release = Literal["open", "members"]  # whom models are readable to: the coordinator too, or members only
Weighting = Literal["samples", "equal", "dynamic"]
Positive = Annotated[int, Field(ge=1, le=2**53 - 1)]
Bound = Annotated[float, Field(gt=0)]


class Member(Message):
    """A site on a roster, with both halves of its identity. `index` is its Shamir coordinate, never 0."""

    kind_name: ClassVar[str] = "member"

    site: SiteId
    name: Annotated[str, Field(min_length=1, max_length=80)]
    index: Positive
    signing_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    hpke_key: Annotated[str, Field(pattern=r"^[0-9a-f]+$", max_length=4096)]


class Roster(Message):
    """Members of a study at one plan, sorted by site id."""

    kind_name: ClassVar[str] = "roster"

    study: StudyId
    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=K_LIMIT)]

    @model_validator(mode="after")
    def _sorted_and_distinct(self) -> Self:
        ids = [member.site.bytes for member in self.members]
        if ids != sorted(set(ids)):
            raise ValueError("members are sorted by site id, each once")
        for what in ("index", "name", "signing_key", "hpke_key"):
            values = [getattr(member, what) for member in self.members]
            if len(set(values)) != len(values):
                raise ValueError(f"two members share one {what}")
        return self

    @cached_property
    def _by_site(self) -> dict[UUID, Member]:
        return {member.site: member for member in self.members}

    def member(self, site: UUID) -> Member | None:
        return self._by_site.get(site)


class Carried(Message):
    """A contribution of an earlier plan that still counts: its site, `member`, left the study.

    `manifest` is the digest of its manifest, `epoch` that of the key which its secret is sealed under.
    """

    kind_name: ClassVar[str] = "carried"

    manifest: Digest
    member: Member
    epoch: Digest


class Plan(Message):
    """What one attempt at a round is: public, identical for all sites, named by its digest.

    `expected` are the sites asked to contribute, sorted; every roster member votes. `bounds` has one number a
    tensor of the layout, in units of the update. Times are Unix seconds, durations seconds. An evaluation round
    carries counts only and no real lanes.

    Attributes:
        rate: what the recipe's learning rate is multiplied with, besides its schedule: a plateau lowers it.
        reference_loss: what dynamic weights compare a site's validation loss with, in nats a case: that of all sites
            in the last completed round; None while there is none.
        carried: earlier contributions that are summed with this round's, sorted by their sites' ids.
        origin: the model that updates are relative to; None: the base model.
    """

    kind_name: ClassVar[str] = "plan"

    version: Literal[1] = 1
    study: StudyId
    round: Positive
    attempt: Positive
    kind: Literal["training", "evaluation"]
    base_model: Digest
    layout: Digest
    recipe: Digest
    roster: Digest
    epoch: Digest | None
    scheme: SchemeName
    release: Release
    weighting: Weighting
    expected: Annotated[tuple[SiteId, ...], Field(min_length=1, max_length=K_LIMIT)]
    k_max: Annotated[int, Field(ge=1, le=K_LIMIT)]
    n_max: Annotated[int, Field(ge=1, lt=2**24)]
    bounds: tuple[Bound, ...]
    threshold: Positive | None
    minimum_contributors: Annotated[int, Field(ge=2, le=K_LIMIT)]
    collect_until: Positive
    vote_seconds: Positive
    open_seconds: Positive
    rate: Annotated[float, Field(gt=0)] = 1.0
    reference_loss: Annotated[float, Field(gt=0)] | None = None
    carried: Annotated[tuple[Carried, ...], Field(max_length=K_LIMIT)] = ()
    origin: Digest | None = None

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, plainly: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Of what plans did not always say: an older one keeps its digest."""
        plain: dict[str, Any] = plainly(self)
        silent = [name for name in _LATER if getattr(self, name) == type(self).model_fields[name].default]
        return {name: value for name, value in plain.items() if name not in silent}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [site.bytes for site in self.expected]
        if ids != sorted(set(ids)):
            raise ValueError("expected sites are sorted by id, each once")
        if len(self.expected) + len(self.carried) > self.k_max or self.minimum_contributors > self.k_max:
            raise ValueError("k_max admits fewer sites than the plan expects or demands")
        if (self.scheme == "lwe-shamir") != (self.epoch is None) or (self.scheme == "lwe-shamir") != bool(
            self.threshold
        ):
            raise ValueError("CKKS schemes name an epoch and no threshold, lwe-shamir a threshold and no epoch")
        leavers = [carried.member.site.bytes for carried in self.carried]
        if leavers != sorted(set(leavers)):
            raise ValueError("carried contributions are sorted by site id, one a site")
        if self.carried and (self.origin is None or self.kind != "training"):
            raise ValueError("only updates relative to one model of all rounds can be carried, in training rounds")
        if self.origin is not None and (self.scheme, self.release) != ("lwe-ckks", "open"):
            raise ValueError("updates are relative to one model of all rounds under lwe-ckks with release open only")
        return self


_LATER: Final = ("rate", "reference_loss", "carried", "origin")


def asked(fraction: float, members: int, minimum: int) -> int:
    """How many of a study's members a plan asks: that fraction of them, rounded up, never fewer than the minimum."""
    return max(minimum, math.ceil(round(fraction * members, 6)))  # 0.55 x 20 is 11.000000000000002


def draw(roster: Roster, number: int, attempt: int, size: int) -> tuple[UUID, ...]:
    """The members that are asked to contribute to an attempt, sorted: the first `size` in an order that nobody chooses.

    A coordinator that picked them itself could let the contributors of two sums differ by one site, whose count is
    then the difference (protocol, section 1).
    """
    seed = b"pleura/draw/v1\x00" + roster.study.bytes + number.to_bytes(8) + attempt.to_bytes(8)
    order = sorted((member.site for member in roster.members), key=lambda s: hashlib.sha256(seed + s.bytes).digest())
    return tuple(sorted(order[:size], key=lambda site: site.bytes))
