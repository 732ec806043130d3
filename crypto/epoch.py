"""CKKS epochs: who made the study's key pair, under which public context, and who was given the secret one."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from crypto.parameters import CKKS_DEGREE, CKKS_MODULI, CKKS_SCALE_BITS, K_LIMIT
from crypto.plan import Positive
from crypto.wire import Digest, Message, SiteId, StudyId


class CkksParameters(Message):
    """The one preset, spelled out so that a record says what it was made under."""

    kind_name: ClassVar[str] = "ckks-parameters"

    degree: int = CKKS_DEGREE
    moduli: tuple[int, ...] = CKKS_MODULI
    scale_bits: int = CKKS_SCALE_BITS

    @model_validator(mode="after")
    def _the_preset(self) -> Self:
        if (self.degree, self.moduli, self.scale_bits) != (CKKS_DEGREE, CKKS_MODULI, CKKS_SCALE_BITS):
            raise ValueError("these are not the protocol's CKKS parameters")
        return self


class Wrap(Message):
    """The epoch's secret context sealed to one member, by the SHA-256 of the sealed bytes."""

    kind_name: ClassVar[str] = "wrap"

    recipient: SiteId
    sha256: Digest


class EpochRecord(Message):
    """Signed by the dealer, an approved member; its digest is in every plan of the epoch.

    `context` is the SHA-256 of the public context as published: TenSEAL's re-serialisation differs, so the
    published bytes are what counts.
    """

    kind_name: ClassVar[str] = "epoch"

    study: StudyId
    epoch: Positive
    dealer: SiteId
    parameters: CkksParameters
    context: Digest
    wraps: Annotated[tuple[Wrap, ...], Field(min_length=1, max_length=K_LIMIT)]

    @model_validator(mode="after")
    def _one_wrap_each(self) -> Self:
        ids = [wrap.recipient.bytes for wrap in self.wraps]
        if ids != sorted(set(ids)):
            raise ValueError("wraps are sorted by recipient, each once")
        return self


class WrapAddition(Message):
    """A wrap for a member that lacks the key, made and signed by a site that holds it.

    Where holder and recipient are one, there is no wrap: the site says that it opened one. `wrap.sha256` is then the
    record's `context`, whose secret half it holds.
    """

    kind_name: ClassVar[str] = "wrap-addition"

    epoch: Digest
    holder: SiteId
    wrap: Wrap

    @property
    def acknowledges(self) -> bool:
        """Whether this is a site's word that it holds the key."""
        return self.holder == self.wrap.recipient


class Approval(Message):
    """A site's statement which peers it approved, each by its fingerprint; replaces its former one."""

    kind_name: ClassVar[str] = "approval"

    study: StudyId
    site: SiteId
    peers: dict[str, Digest]
