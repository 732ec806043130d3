"""Bytes sealed to one site, for one purpose (HPKE base mode, RFC 9180; protocol, section 5).

HPKE's base mode authenticates nobody. The sender is bound into the envelope, but only a signature over its digest
proves who that was: wraps and shares are listed in signed messages.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from crypto.errors import CorruptCiphertext, Malformed, WrongRecipient
from crypto.identity import Identity, PublicIdentity

SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
OVERHEAD: Final = KEM.MLKEM768_X25519.enc_length() + 16  # encapsulated key and authentication tag, bytes


def seal(public: PublicIdentity, plaintext: bytes, label: str, context: str, sender: UUID, recipient: UUID) -> bytes:
    """An envelope, `OVERHEAD` bytes longer than its content.

    Args:
        public: whose keys can open it.
        label: its purpose, such as "pleura/wrap/v1".
        context: SHA-256 in hex of what it belongs to: a plan, or an epoch.

    Raises:
        Malformed: the recipient's keys are such that nothing can be sealed to them (a point of low order).
    """
    try:
        return SUITE.encrypt(plaintext, public.recipient(), info=_info(label, context, sender, recipient))
    except ValueError:
        raise Malformed(f"nothing can be sealed to the keys of site {recipient}: they are degenerate") from None


def open(  # noqa: A001 - the field's word, always used as envelope.open
    identity: Identity, sealed: bytes, label: str, context: str, sender: UUID, recipient: UUID
) -> bytes:
    """What was sealed, if key, purpose, context, sender and recipient are all those it was sealed with.

    HPKE cannot tell a foreign envelope from a changed one: whatever is long enough and does not open counts as
    foreign. Callers check the digest that the signed message announced first, which finds changed bytes.

    Raises:
        CorruptCiphertext: too short to be an envelope.
        WrongRecipient: sealed to another key, for another purpose, or changed.
    """
    if len(sealed) < OVERHEAD:
        raise CorruptCiphertext(f"an envelope has at least {OVERHEAD} bytes, this one {len(sealed)}: it was cut short")
    try:
        return SUITE.decrypt(sealed, identity.hpke(), info=_info(label, context, sender, recipient))
    except (InvalidTag, ValueError):
        raise WrongRecipient(
            f"this envelope ({label}) does not open with the keys of site {recipient}: it was sealed to other keys, "
            f"for another purpose, or not by site {sender}"
        ) from None


def _info(label: str, context: str, sender: UUID, recipient: UUID) -> bytes:
    return b"".join((label.encode(), b"\x00", bytes.fromhex(context), sender.bytes, recipient.bytes))
