"""Whom a site may approve at all."""

from __future__ import annotations

from uuid import UUID

import pytest

from crypto.errors import Malformed
from crypto.identity import Identity
from crypto.plan import Member
from participant.steps.peers import usable_identity, words_of_hex

PUBLIC = Identity.generate().public


def member(hpke_key: bytes) -> Member:
    keys = {"signing_key": PUBLIC.signing_key.hex(), "hpke_key": hpke_key.hex()}
    return Member(site=UUID(int=1), name="north", index=1, **keys)


def test_usable_keys() -> None:
    assert usable_identity(member(PUBLIC.hpke_key)) == PUBLIC
    assert words_of_hex(PUBLIC.fingerprint) == PUBLIC.words


@pytest.mark.parametrize("spoiled", [PUBLIC.hpke_key[:-32] + bytes(32), PUBLIC.hpke_key[:-1]])
def test_keys_that_nothing_can_be_sealed_to(spoiled: bytes) -> None:
    """A point of low order passes for a key; approved, it would keep every dealer from dealing."""
    with pytest.raises(Malformed, match="keys of north are not usable"):
        usable_identity(member(spoiled))
