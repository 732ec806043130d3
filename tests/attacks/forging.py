"""Entries, rosters and messages as an attacker makes or reads them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from hostile import Exchange

from crypto import envelope
from crypto.epochs import WRAP_LABEL
from crypto.errors import CryptoError
from crypto.identity import Identity
from crypto.plan import Member, Roster
from crypto.schemes.shares import SHARE_LABEL
from crypto.wire import Message, Signed

Json = dict[str, Any]


def signed(kind: type[Message], exchange: Exchange) -> Any:
    """The signed message that a site sent."""
    return Signed[kind].from_json(json.loads(exchange.body))  # type: ignore[valid-type]


def member_with(member: Member, **changes: Any) -> Member:
    """A roster's entry, altered."""
    return Member.from_json(member.to_json() | changes)


def keys_of(identity: Identity) -> Json:
    """Both halves of an identity as a roster's entry has them."""
    return {"signing_key": identity.public.signing_key.hex(), "hpke_key": identity.public.hpke_key.hex()}


def stranger(identity: Identity, site: UUID, index: int = 99) -> Member:
    """A roster's entry for keys that nobody approved."""
    return Member(site=site, name="stranger", index=index, **keys_of(identity))


def roster_with(roster: Roster, *members: Member) -> Roster:
    """A roster with these members added, or in the place of those with their ids."""
    merged = {member.site: member for member in (*roster.members, *members)}
    return Roster(study=roster.study, members=tuple(sorted(merged.values(), key=lambda member: member.site.bytes)))


def opens(identity: Identity, upload: Exchange, context: str, recipient: UUID) -> bool:
    """Whether these keys open what a site uploaded, sealed under its name."""
    label = SHARE_LABEL if "/key-parts/" in upload.path else WRAP_LABEL
    try:
        envelope.open(identity, upload.body, label, context, upload.site or recipient, recipient)
    except CryptoError:
        return False
    return True
