"""Base of every message that is hashed or signed: strict, frozen, one spelling, one domain a kind."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError

from crypto.canonical import canonical, digest, parse
from crypto.errors import Malformed

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
SiteId = Annotated[UUID, PlainSerializer(str, when_used="json")]
StudyId = SiteId


class Message(BaseModel):
    """A value with exactly one byte form. Unknown keys, wrong types and non-canonical JSON are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    kind_name: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    def encode(self) -> bytes:
        """Canonical JSON (RFC 8785)."""
        return canonical(self.to_json())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hex. Computed once: the value never changes."""
        return digest(self.to_json())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        copy = super().model_copy(update=update, deep=deep)
        for name in [name for name in copy.__dict__ if name not in type(self).model_fields]:
            del copy.__dict__[name]  # what was computed of the former value
        return copy

    def signed_bytes(self) -> bytes:
        """What a signature covers: the kind keeps a vote from being read as an opening."""
        return b"pleura/" + self.kind_name.encode() + b"/v1\x00" + self.encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The message of canonical bytes.

        Raises:
            Malformed: not canonical JSON, or not this kind of message.
        """
        return cls.from_json(parse(data))

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The message of a JSON value.

        Raises:
            Malformed: naming the first field that is wrong; or the value is understood, but not as we would write it.
        """
        written = canonical(value)
        try:
            message = cls.model_validate_json(written)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(step) for step in first["loc"]) or "the whole"
            raise Malformed(f"not a valid {cls.kind_name}: {place}: {first['msg']}") from None
        if message.encode() != written:  # an id in capitals, a default left out: two spellings of one message
            raise Malformed(f"not a valid {cls.kind_name}: something in it is spelled another way than it has to be")
        return message


M = TypeVar("M", bound=Message)


class Signed(Message, Generic[M]):
    """A message with the Ed25519 signature of its sender, both hex. Verify with `crypto.identity.verify`."""

    kind_name: ClassVar[str] = "signed"

    message: M
    signature: Signature
