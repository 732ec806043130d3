"""One way to turn a value into bytes that are signed or hashed: RFC 8785 JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import rfc8785

from crypto.errors import Malformed, WrongDigest


def canonical(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value.

    Raises:
        Malformed: the value is not JSON (a NaN, an integer beyond 2^53, a key that is no string, or half a surrogate
            pair in one), or nested too deeply to be written.
    """
    try:
        return rfc8785.dumps(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise Malformed(f"this value has no canonical JSON form: {error}") from error


def parse(data: bytes) -> Any:
    """The JSON value of canonical bytes; anything but its own canonical form is refused.

    Raises:
        Malformed: not JSON, or JSON that is spelled another way (so two spellings never get one signature).
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed("these bytes are not JSON") from error
    if canonical(value) != data:
        raise Malformed("this JSON is not in canonical form (RFC 8785)")
    return value


def sha256(data: bytes | memoryview) -> str:
    """SHA-256 in lower-case hex, as every digest in the protocol is written."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical bytes, in hex."""
    return sha256(canonical(value))


def check_digest(data: bytes | memoryview, expected: str, what: str) -> None:
    """Raise unless `data` has the SHA-256 `expected` (hex).

    Raises:
        WrongDigest: naming `what` was received.
    """
    if sha256(data) != expected:
        raise WrongDigest(f"{what} does not have the SHA-256 it was announced with ({expected[:12]}...)")
