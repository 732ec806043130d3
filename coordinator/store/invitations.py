"""Single-use invitations, kept as hashes."""

from __future__ import annotations

import secrets
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from coordinator.errors import Conflict, InvitationExpired, InvitationInvalid, NotFound
from coordinator.store import audit
from coordinator.store.tables import Invitation, Site
from crypto.canonical import sha256

_PREFIX: Final = "pleura-invitation-"
_RANDOM_BYTES: Final = 24
_HOUR: Final = 3600.0


def create(session: Session, note: str, hours: float, actor: str, now: float) -> tuple[str, float]:
    """A new invitation, in clear for this once, and when it expires (Unix seconds)."""
    invitation, row = _new(note, hours, now)
    session.add(row)
    audit.append(session, now, actor, "invitation.made", {"note": note, "expires": row.expires})
    return invitation, row.expires


def renew(session: Session, site: Site, hours: float, actor: str, now: float) -> tuple[str, float]:
    """An invitation for an enrolled site to take new keys, in place of a former one that was not used."""
    forget(session, site)
    invitation, row = _new(f"new keys for {site.name}", hours, now)
    row.renews = site.id
    session.add(row)
    detail = {"site": str(site.id), "name": site.name, "expires": row.expires}
    audit.append(session, now, actor, "site.reinvited", detail)
    return invitation, row.expires


def forget(session: Session, site: Site) -> None:
    """Make unused invitations of an enrolled site good for nothing."""
    session.execute(delete(Invitation).where(Invitation.renews == site.id, Invitation.used_by.is_(None)))


def everyone(session: Session) -> list[Invitation]:
    """All invitations, used and expired ones among them, newest first. Their hashes are what they go by."""
    return list(session.scalars(select(Invitation).order_by(Invitation.created.desc(), Invitation.hash)))


def withdraw(session: Session, identifier: str, actor: str, now: float) -> None:
    """Make an invitation that nobody used good for nothing, by its hash.

    Raises:
        NotFound: no such invitation.
        Conflict: a site enrolled with it.
    """
    row = session.get(Invitation, identifier)
    if row is None:
        raise NotFound("There is no such invitation: it was withdrawn already, or replaced by a newer one.")
    if row.used_by is not None:
        raise Conflict("A site enrolled with this invitation. To keep that site out, suspend it.")
    session.delete(row)
    audit.append(session, now, actor, "invitation.withdrawn", {"note": row.note, "expires": row.expires})


def find(session: Session, invitation: str, now: float) -> Invitation:
    """The invitation's row; it may be used already (`used_by`).

    Raises:
        InvitationInvalid: there is no such invitation.
        InvitationExpired: nobody used it in its time.
    """
    row = session.get(Invitation, _hash(invitation))
    if row is None:
        raise InvitationInvalid(
            "There is no such invitation. Copy it again, whole, or ask the coordinator's operator for one."
        )
    if row.used_by is None and row.expires <= now:
        raise InvitationExpired("This invitation is past its time. Ask the coordinator's operator for a new one.")
    return row


def _new(note: str, hours: float, now: float) -> tuple[str, Invitation]:
    invitation = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    expires = now + hours * _HOUR
    return invitation, Invitation(hash=_hash(invitation), note=note, created=now, expires=expires, used_by=None)


def _hash(invitation: str) -> str:
    return sha256(invitation.encode())
