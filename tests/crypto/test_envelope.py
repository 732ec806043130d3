"""Envelopes open for one key and one purpose, and for nothing else."""

from __future__ import annotations

import uuid

import pytest

from crypto import envelope
from crypto.errors import CorruptCiphertext, Malformed, WrongRecipient
from crypto.identity import Identity, PublicIdentity

ALICE, BOB = Identity.generate(), Identity.generate()
SENDER, RECIPIENT = uuid.UUID(int=1), uuid.UUID(int=2)
PURPOSE = {"label": "pleura/wrap/v1", "context": "5a" * 32, "sender": SENDER, "recipient": RECIPIENT}
CONTENT = b"a key" * 100


@pytest.fixture(scope="module")
def sealed() -> bytes:
    return envelope.seal(ALICE.public, CONTENT, **PURPOSE)


@pytest.mark.parametrize("content", [b"", b"x", CONTENT, bytes(200_000)])
def test_opens_to_what_was_sealed(content):
    sealed = envelope.seal(ALICE.public, content, **PURPOSE)
    assert len(sealed) == len(content) + envelope.OVERHEAD
    assert envelope.open(ALICE, sealed, **PURPOSE) == content


def test_sealing_twice_gives_two_envelopes(sealed):
    assert envelope.seal(ALICE.public, CONTENT, **PURPOSE) != sealed


def test_another_key_does_not_open(sealed):
    with pytest.raises(WrongRecipient, match="sealed to other keys"):
        envelope.open(BOB, sealed, **PURPOSE)


@pytest.mark.parametrize(
    "change",
    [
        {"label": "pleura/share/v1"},
        {"context": "5b" * 32},
        {"sender": RECIPIENT},
        {"recipient": SENDER},
        {"sender": RECIPIENT, "recipient": SENDER},
    ],
)
def test_another_purpose_does_not_open(sealed, change):
    with pytest.raises(WrongRecipient):
        envelope.open(ALICE, sealed, **(PURPOSE | change))


@pytest.mark.parametrize("place", [0, 500, 1100, 1119, 1120, -1])
def test_a_changed_byte_does_not_open(sealed, place):
    changed = bytearray(sealed)
    changed[place] ^= 1
    with pytest.raises(WrongRecipient):
        envelope.open(ALICE, bytes(changed), **PURPOSE)


@pytest.mark.parametrize("length", [0, 1, 1120, envelope.OVERHEAD - 1])
def test_too_short_to_be_an_envelope(sealed, length):
    with pytest.raises(CorruptCiphertext, match="cut short"):
        envelope.open(ALICE, sealed[:length], **PURPOSE)


def test_a_longer_or_shorter_envelope_does_not_open(sealed):
    for changed in (sealed[:-1], sealed + b"\x00"):
        with pytest.raises(WrongRecipient):
            envelope.open(ALICE, changed, **PURPOSE)


def test_nothing_is_sealed_to_a_degenerate_key():
    degenerate = PublicIdentity(ALICE.public.signing_key, ALICE.public.hpke_key[:1184] + bytes(32))
    with pytest.raises(Malformed, match="degenerate"):
        envelope.seal(degenerate, CONTENT, **PURPOSE)
