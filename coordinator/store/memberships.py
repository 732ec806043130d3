"""Who takes part in a study."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import NotAMember, NotFound
from coordinator.rounds.planning import Candidate
from coordinator.store.tables import Approval, Membership, Site
from crypto.plan import Member, Roster


def members(session: Session, study: UUID) -> list[tuple[Membership, Site]]:
    """Active members with their sites, sorted by site id."""
    rows = session.execute(
        select(Membership, Site)
        .join(Site, Membership.site_id == Site.id)
        .where(Membership.study_id == study, Membership.left.is_(None), Site.state == "active")
    )
    return sorted(((member, site) for member, site in rows), key=lambda pair: pair[1].id.bytes)


def is_member(session: Session, study: UUID, site: UUID) -> bool:
    member = session.get(Membership, (study, site))
    return member is not None and member.left is None


def check_member(session: Session, study: UUID, site: UUID) -> None:
    """Raises NotAMember unless the site takes part in the study."""
    if not is_member(session, study, site):
        raise NotAMember("This site is not a member of this study. Join it first (PUT .../membership).")


def roster(session: Session, study: UUID) -> Roster:
    """All active members: the candidates for the next plan.

    Raises:
        NotFound: nobody has joined.
    """
    found = members(session, study)
    if not found:
        raise NotFound("Nobody has joined this study yet.")
    return Roster(study=study, members=tuple(_member(*pair) for pair in found))


def candidates(session: Session, study: UUID) -> list[Candidate]:
    """Active members as `rounds.planning` takes them."""
    peers = {
        row.site_id: row.signed["message"]["peers"]
        for row in session.scalars(select(Approval).where(Approval.study_id == study))
    }
    return [
        Candidate(
            member=_member(membership, site),
            fingerprint=site.fingerprint,
            joined=membership.joined,
            last_seen=site.last_seen,
            approved={UUID(peer): fingerprint for peer, fingerprint in peers.get(site.id, {}).items()},
        )
        for membership, site in members(session, study)
    ]


def _member(membership: Membership, site: Site) -> Member:
    return Member(
        site=site.id,
        name=site.name,
        index=membership.index,
        signing_key=site.signing_key,
        hpke_key=site.hpke_key,
    )
