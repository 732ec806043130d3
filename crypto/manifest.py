"""What sites sign during a round: manifest, vote, openings, refusals; and the ballot made of manifests.

A ballot's digest covers the plan's digest and every manifest's, so two ballots for one round never look alike.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from crypto.parameters import K_LIMIT, SHARE_PRIME, N
from crypto.wire import Digest, Message, Signed, SiteId, StudyId


class Manifest(Message):
    """A contribution by its digests: body parts in order (4 MiB each, the last may be shorter), then the key parts."""

    kind_name: ClassVar[str] = "manifest"

    plan: Digest
    site: SiteId
    parts: Annotated[tuple[Digest, ...], Field(min_length=1, max_length=65536)]
    key_parts: Annotated[tuple[Digest, ...], Field(max_length=K_LIMIT)]


class Vote(Message):
    """ "I was shown this ballot, and it passes every check of mine.\""""

    kind_name: ClassVar[str] = "vote"

    ballot: Digest
    site: SiteId


class Opening(Message):
    """An opener's answer to a ballot: the sum of the contributors' secrets, 2,048 centred integers."""

    kind_name: ClassVar[str] = "opening"

    ballot: Digest
    site: SiteId
    secret_sum: Annotated[
        tuple[Annotated[int, Field(ge=-32 * K_LIMIT, le=32 * K_LIMIT)], ...], Field(min_length=N, max_length=N)
    ]


class BodyOpening(Message):
    """An opener's answer to a ballot under `ckks`: the SHA-256 of every opened part, which it uploaded before.

    An opened part is the noisy sum of the contributors' slots: float32, little-endian.
    """

    kind_name: ClassVar[str] = "body-opening"

    ballot: Digest
    site: SiteId
    parts: Annotated[tuple[Digest, ...], Field(min_length=1, max_length=65536)]


class ShareOpening(Message):
    """A site's answer to a ballot under `lwe-shamir`, and its vote: the contributors' shares addressed to it, added up.

    2,048 residues modulo 2^31 - 1; at which index they lie, the roster says.
    """

    kind_name: ClassVar[str] = "share-opening"

    ballot: Digest
    site: SiteId
    share_sum: Annotated[tuple[Annotated[int, Field(ge=0, lt=SHARE_PRIME)], ...], Field(min_length=N, max_length=N)]


class ShareRefusal(Message):
    """A site's no to a ballot under `lwe-shamir`: what these contributors sealed to it and signed for does not open."""

    kind_name: ClassVar[str] = "share-refusal"

    ballot: Digest
    site: SiteId
    senders: Annotated[tuple[SiteId, ...], Field(min_length=1, max_length=K_LIMIT)]

    @model_validator(mode="after")
    def _sorted_and_distinct(self) -> Self:
        ids = [sender.bytes for sender in self.senders]
        if ids != sorted(set(ids)):
            raise ValueError("senders are sorted by site id, each once")
        return self


Answer: TypeAlias = Opening | BodyOpening | ShareOpening  # to a ballot, by scheme


_Code = Annotated[str, Field(pattern=r"^[a-z-]+$", max_length=40)]
_Words = Annotated[str, Field(min_length=1, max_length=500)]


class Refusal(Message):
    """A site's no, in words that both operators read. `about` is the digest of the plan or ballot refused."""

    kind_name: ClassVar[str] = "refusal"

    site: SiteId
    step: Literal["plan", "ballot", "opening"]
    about: Digest
    code: _Code
    words: _Words


class StudyRefusal(Message):
    """A site's no to a whole study, which it does not join, or follows no more: what its policy has against it."""

    kind_name: ClassVar[str] = "study-refusal"

    study: StudyId
    site: SiteId
    code: _Code
    words: _Words


class Ballot(Message):
    """The frozen set of contributors, as their signed manifests sorted by site id."""

    kind_name: ClassVar[str] = "ballot"

    plan: Digest
    manifests: Annotated[tuple[Signed[Manifest], ...], Field(min_length=1, max_length=K_LIMIT)]

    @model_validator(mode="after")
    def _sorted_and_distinct(self) -> Self:
        ids = [entry.message.site.bytes for entry in self.manifests]
        if ids != sorted(set(ids)):
            raise ValueError("manifests are sorted by site id, each site once")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the plan digest followed by the manifests' digests, as raw bytes; hex."""
        hashed = hashlib.sha256(bytes.fromhex(self.plan))
        for entry in self.manifests:
            hashed.update(bytes.fromhex(entry.message.digest))
        return hashed.hexdigest()
