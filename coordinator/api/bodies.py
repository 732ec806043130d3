"""What comes in and goes out: octets with their digest, signed messages in their own strict form, files to the disk."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from coordinator.errors import DigestMismatch, NotFound, RequestInvalid
from coordinator.services import Services, services_of
from crypto.canonical import sha256
from crypto.errors import Malformed
from crypto.wire import Message, Signed

OCTETS: Final = "application/octet-stream"
M = TypeVar("M", bound=Message)
_SHA256: Final = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


async def _octets(request: Request) -> bytes:
    return await request.body()


Octets = Annotated[bytes, Depends(_octets)]


def signed(*kinds: type[M]) -> Any:
    """A dependency that gives the body as Signed[kind] of the kind whose fields it has.

    Not FastAPI's own: messages are strict about their spelling.
    """

    async def read(request: Request) -> Signed[M]:
        try:
            value = json.loads(await request.body())
        except (ValueError, RecursionError) as error:
            raise Malformed("The body is not JSON.") from error
        message: Signed[M] = Signed[_kind_of(value, kinds)].from_json(value)  # type: ignore[misc]
        return message

    return Depends(read)


def _kind_of(value: Any, kinds: Sequence[type[M]]) -> type[M]:
    message = value.get("message") if isinstance(value, dict) else None
    fields = set(message) if isinstance(message, dict) else set()
    return next((kind for kind in kinds if fields == set(kind.model_fields)), kinds[0])


def checked_octets(
    data: Octets,
    content_digest: Annotated[str | None, Header(description="`sha-256=:base64:` (RFC 9530)")] = None,
) -> tuple[bytes, str]:
    """The body and its SHA-256 (hex), after comparing it with the announced one.

    Raises:
        RequestInvalid: no digest was announced.
        DigestMismatch: another was; the bytes were changed on their way.
    """
    announced, found = _announced(content_digest), sha256(data)
    if found != announced:
        raise DigestMismatch(
            f"The {len(data)} bytes that arrived have the SHA-256 {found[:12]}..., announced was {announced[:12]}... "
            "Send them again.",
            {"received": found},
        )
    return data, found


CheckedOctets = Annotated[tuple[bytes, str], Depends(checked_octets)]


def _announced(header: str | None) -> str:
    """The SHA-256 (hex) among the digests of a Content-Digest header."""
    for entry in (header or "").split(","):
        if found := _SHA256.fullmatch(entry.strip()):
            return base64.b64decode(found[1]).hex()
    raise RequestInvalid("Send the header Content-Digest with `sha-256=:base64 of the SHA-256:` (RFC 9530).")


def digest_field(sha256_of: str) -> str:
    """The value of a Content-Digest or Repr-Digest header (RFC 9530), from a SHA-256 in hex."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256_of)).decode()}:"


def blob(services: Services, key: str, gone: str) -> Response:
    """A small blob as the answer.

    Raises:
        NotFound: it is not in the blob store (any more); `gone` says so in words.
    """
    try:
        return Response(services.blobs.read(key), media_type=OCTETS)
    except FileNotFoundError:
        raise NotFound(gone) from None


async def _file(request: Request) -> AsyncIterator[Path]:
    """The body as a file that is deleted after the request; a model does not fit into memory many times over."""
    folder = services_of(request).settings.incoming
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder) as file:
        async for chunk in request.stream():
            await run_in_threadpool(file.write, chunk)
        file.flush()
        os.fsync(file.fileno())
        yield Path(file.name)


BodyFile = Annotated[Path, Depends(_file)]
