"""Who takes part in a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from coordinator.errors import NotAMember, NotFound
from coordinator.rounds.planning import Candidate
from coordinator.store.kept import Kept
from coordinator.store.tables import Approval, Epoch, Membership, Site, WrapAddition
from crypto.canonical import digest
from crypto.plan import Member, Roster

_AT_ONCE: Final = 16  # statements of members in memory
_rosters: Final = Kept[Roster](4)  # every look of every member asks for it, and it is mostly the same


def members(session: Session, study: UUID) -> list[tuple[Membership, Site]]:
    """Active members with their sites, sorted by site id."""
    rows = session.execute(
        select(Membership, Site)
        .join(Site, Membership.site_id == Site.id)
        .where(Membership.study_id == study, Membership.left.is_(None), Site.state == "active")
    )
    return sorted(((member, site) for member, site in rows), key=lambda pair: pair[1].id.bytes)


def seen(session: Session, study: UUID) -> list[tuple[UUID, float]]:
    """Active members and when they were seen last, sorted by site id, without anything else of them."""
    rows = session.execute(
        select(Site.id, Site.last_seen).join(Membership, Membership.site_id == Site.id).where(*_active(study))
    )
    return sorted(((site, last_seen) for site, last_seen in rows), key=lambda pair: pair[0].bytes)


def ever(session: Session, study: UUID) -> int:
    """How many sites were members at any time."""
    query = select(func.count()).select_from(Membership).where(Membership.study_id == study)
    return session.scalar(query) or 0


def lacking(session: Session, epoch: Epoch) -> bool:
    """Whether any active member neither dealt the epoch's key nor said that it holds it."""
    said = exists().where(
        WrapAddition.study_id == epoch.study_id,
        WrapAddition.epoch == epoch.number,
        WrapAddition.recipient == Site.id,
        WrapAddition.holder == Site.id,
    )
    query = select(Site.id).join(Membership, Membership.site_id == Site.id)
    silent = query.where(*_active(epoch.study_id), Site.id != epoch.dealer, ~said)
    return session.scalar(silent.limit(1)) is not None


def _active(study: UUID) -> tuple[ColumnElement[bool], ...]:
    return Membership.study_id == study, Membership.left.is_(None), Site.state == "active"


def approvals(session: Session, study: UUID) -> int:
    """How many sites said whom they approve."""
    return session.scalar(select(func.count()).select_from(Approval).where(Approval.study_id == study)) or 0


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
    found = find_roster(session, study)
    if found is None:
        raise NotFound("Nobody has joined this study yet.")
    return found


def find_roster(session: Session, study: UUID) -> Roster | None:
    """The same; None where nobody has joined."""
    query = select(Membership.index, Site.name, Site.fingerprint).join(Site, Membership.site_id == Site.id)
    rows = sorted(map(tuple, session.execute(query.where(*_active(study)))))
    if not rows:
        return None
    return _rosters.get(digest([str(study), rows]), lambda: _roster(session, study))


def _roster(session: Session, study: UUID) -> Roster:
    return Roster(study=study, members=tuple(_member(*pair) for pair in members(session, study)))


def candidates(session: Session, study: UUID, former: Iterable[UUID] = ()) -> list[Candidate]:
    """Active members as `rounds.planning` takes them.

    Args:
        former: sites that left, and that it asks who approved of all the same.
    """
    found = members(session, study)
    sites = [*(site for _, site in found), *(session.get_one(Site, site) for site in former)]
    approved = _approved(session, study, {str(site.id): site for site in sites})
    return [
        Candidate(
            member=_member(membership, site),
            fingerprint=site.fingerprint,
            joined=membership.joined,
            last_seen=site.last_seen,
            approved=approved.get(site.id, {}),
        )
        for membership, site in found
    ]


def _approved(session: Session, study: UUID, sites: Mapping[str, Site]) -> dict[UUID, Mapping[UUID, str]]:
    """For each member which of these sites it approved with the keys they have now, one by one and without a copy of
    anybody's keys: a thousand members say a million things about each other, and mostly the same."""
    everybody = {site.id: site.fingerprint for site in sites.values()}
    query = select(Approval.site_id, Approval.signed).where(Approval.study_id == study)
    found: dict[UUID, Mapping[UUID, str]] = {}
    for site, signed in session.execute(query.execution_options(yield_per=_AT_ONCE)):
        said: dict[str, str] = signed["message"]["peers"]
        fitting = [sites[peer] for peer, keys in said.items() if peer in sites and sites[peer].fingerprint == keys]
        others = len(everybody) - (site in everybody)
        found[site] = everybody if len(fitting) == others else {peer.id: peer.fingerprint for peer in fitting}
    return found


def _member(membership: Membership, site: Site) -> Member:
    return Member(
        site=site.id,
        name=site.name,
        index=membership.index,
        signing_key=site.signing_key,
        hpke_key=site.hpke_key,
    )
