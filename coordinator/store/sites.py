"""Sites: enrolment, new keys for lost ones, the tokens they used, who was seen when, suspension."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Double, Select, delete, insert, literal, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from coordinator.errors import InvitationInvalid, InvitationUsed, NameTaken, NotFound, TokenReplayed
from coordinator.store import audit, epochs, invitations
from coordinator.store.tables import Approval, Membership, SeenToken, Site
from crypto.errors import InvalidSignature
from crypto.identity import PublicIdentity, enrolment_bytes, verify_bytes

_SEEN_SECONDS: Final = (
    1.0  # how exactly it is known when a site was seen: an uploading one sends many requests a second
)


class Changed(Exception):
    """A site's row is not what it was when it was read."""


def enrol(
    session: Session, invitation: str, name: str, public: PublicIdentity, proof: bytes, now: float
) -> tuple[Site, bool]:
    """The site that `invitation` admits, and whether it was enrolled before and has new keys now.

    The same enrolment again is answered alike, as the first answer may be lost.

    Raises:
        InvitationInvalid: unknown, or the proof was not made with the offered key for this invitation and name.
        InvitationExpired, InvitationUsed: as they say.
        NameTaken: another site has this name, or one of these keys.
    """
    ticket = invitations.find(session, invitation, now)
    try:
        verify_bytes(public, enrolment_bytes(invitation, name, public), proof)
    except InvalidSignature as error:
        raise InvitationInvalid(
            "The proof does not fit this invitation, name and pair of keys. Run `pleura-participant enrol` again."
        ) from error
    if ticket.used_by is not None:
        return _same_site(session, ticket.used_by, name, public), ticket.renews is not None
    if ticket.renews is None:
        site = _new_site(session, name, public, now)
    else:
        site = _renewed_site(session, ticket.renews, name, public, now)
    ticket.used_by = site.id
    return site, ticket.renews is not None


def _new_site(session: Session, name: str, public: PublicIdentity, now: float) -> Site:
    if session.scalar(select(Site).where(Site.name == name)) is not None:
        raise NameTaken(
            f"Another site is enrolled as {name!r}. Choose another name; the invitation is still good. If it is this "
            "site, which lost its keys, ask the operator for an invitation to enrol again (site reinvite)."
        )
    _check_new_keys(session, public)
    site = Site(
        id=uuid4(),
        name=name,
        signing_key=public.signing_key.hex(),
        hpke_key=public.hpke_key.hex(),
        fingerprint=public.fingerprint,
        enrolled=now,
        last_seen=now,
        state="active",
    )
    session.add(site)
    session.flush()
    audit.append(session, now, f"site:{site.id}", "site.enrolled", {"name": name, "fingerprint": site.fingerprint})
    return site


def _same_site(session: Session, used_by: UUID, name: str, public: PublicIdentity) -> Site:
    site = session.get_one(Site, used_by)
    if (site.name, site.fingerprint) != (name, public.fingerprint):
        raise InvitationUsed("This invitation was used before. Each site needs its own: ask the operator for another.")
    return site


def _renewed_site(session: Session, site_id: UUID, name: str, public: PublicIdentity, now: float) -> Site:
    """The site with new keys in place of its former ones, which may be in the wrong hands.

    What it approved was said with the former keys and is forgotten; what its peers approved no longer fits it; the
    studies that it is in get a new key.
    """
    site = session.get_one(Site, site_id)
    if name != site.name:
        raise InvitationInvalid(
            f"This invitation is for the site {site.name!r} to enrol again, and you enrol as {name!r}. Set the name in "
            "config.toml; the invitation is still good."
        )
    _check_new_keys(session, public)
    detail = {"name": name, "former": site.fingerprint, "fingerprint": public.fingerprint}
    site.signing_key, site.hpke_key = public.signing_key.hex(), public.hpke_key.hex()
    site.fingerprint, site.last_seen, site.state = public.fingerprint, now, "active"
    session.execute(delete(Approval).where(Approval.site_id == site.id))
    audit.append(session, now, f"site:{site.id}", "site.enrolled-again", detail)
    _retire_keys(session, site, f"site:{site.id}", "a member has new keys", now)
    return site


def _retire_keys(session: Session, site: Site, actor: str, reason: str, now: float) -> None:
    for member in session.scalars(select(Membership).where(Membership.site_id == site.id, Membership.left.is_(None))):
        epochs.retire(session, member.study_id, now, actor, reason)


def _check_new_keys(session: Session, public: PublicIdentity) -> None:
    keys = or_(Site.signing_key == public.signing_key.hex(), Site.hpke_key == public.hpke_key.hex())
    if session.scalar(select(Site).where(keys)) is not None:
        raise NameTaken("A site with these keys is enrolled already. Make new ones with `pleura-participant init`.")


def get(session: Session, site: UUID) -> Site | None:
    return session.get(Site, site)


def everyone(session: Session) -> list[Site]:
    """All sites, by name."""
    return list(session.scalars(select(Site).order_by(Site.name)))


def use_token(session: Session, site: Site, jti: str, expires: float, now: float) -> bool:
    """Note that a token was used; every second or so, too, that its site was seen, and forget those that expired.

    Each statement is right whatever other requests do meanwhile (`Store.note`), however long ago `site` was read.

    Returns:
        whether it was noted that the site was seen.

    Raises:
        TokenReplayed: it was used before.
        Changed: the site has other keys or another state than `site`; nothing was noted.
    """
    unchanged = (Site.id == site.id, Site.state == site.state, Site.signing_key == site.signing_key)
    row: Select[Any, Any, Any] = select(Site.id, literal(jti), literal(expires, Double())).where(*unchanged)
    columns = [SeenToken.site_id, SeenToken.jti, SeenToken.expires]
    try:
        noted = session.scalar(insert(SeenToken).from_select(columns, row).returning(SeenToken.jti))
    except IntegrityError as error:
        raise TokenReplayed(
            "This token was used before. Sign a new one, with a fresh jti, for every request."
        ) from error
    if noted is None:
        raise Changed
    if site.last_seen >= now - _SEEN_SECONDS:
        return False
    session.execute(delete(SeenToken).where(SeenToken.site_id == site.id, SeenToken.expires < now))
    session.execute(update(Site).where(Site.id == site.id, Site.last_seen < now - _SEEN_SECONDS).values(last_seen=now))
    return True


def forget_tokens(session: Session, now: float) -> None:
    """Forget the tokens that have expired of all sites: of those, too, that never call again."""
    session.execute(delete(SeenToken).where(SeenToken.expires < now))


def set_suspended(session: Session, name_or_id: str, suspended: bool, actor: str, now: float) -> Site:
    """Refuse, or admit again, all calls of a site. A suspended site holds study keys, so their epochs are retired.

    Raises:
        NotFound: no such site.
    """
    site = by_reference(session, name_or_id)
    site.state = "suspended" if suspended else "active"
    audit.append(session, now, actor, f"site.{site.state}", {"site": str(site.id), "name": site.name})
    if suspended:
        invitations.forget(session, site)
        _retire_keys(session, site, actor, "a member was suspended", now)
    return site


def by_reference(session: Session, name_or_id: str) -> Site:
    """The site of that name or id.

    Raises:
        NotFound: no such site.
    """
    site = session.scalar(select(Site).where(or_(Site.name == name_or_id, Site.id == _uuid(name_or_id))))
    if site is None:
        raise NotFound(f"There is no site {name_or_id!r}. `pleura-coordinator sites` shows them all.")
    return site


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
