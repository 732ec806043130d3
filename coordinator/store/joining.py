"""Members: joining a study, leaving it, and saying which peers were approved."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from coordinator.errors import MessageRefused, StudyState
from coordinator.store import audit, carrying, epochs
from coordinator.store.studies import ONGOING
from coordinator.store.tables import Approval, Membership, Site, Study, StudyRefusal
from crypto import epoch as messages
from crypto import manifest
from crypto.identity import PublicIdentity, verify
from crypto.wire import Signed


def join(session: Session, study: Study, site: UUID, now: float) -> None:
    """Make a site a member; it keeps the index it once had. What it had against the study is forgotten.

    Raises:
        StudyState: the study has ended.
    """
    if study.state not in ONGOING:
        raise StudyState(f"The study {study.name!r} is {study.state} and takes no members.", {"state": study.state})
    session.execute(delete(StudyRefusal).where(StudyRefusal.study_id == study.id, StudyRefusal.site_id == site))
    member = session.get(Membership, (study.id, site))
    if member is not None and member.left is None:
        return
    if member is None:
        last = session.scalar(select(func.max(Membership.index)).where(Membership.study_id == study.id)) or 0
        member = Membership(study_id=study.id, site_id=site, index=last + 1, joined=now, left=None)
        session.add(member)
    member.joined, member.left, member.not_carried = now, None, None
    audit.append(session, now, f"site:{site}", "study.joined", {"study": str(study.id)})


def leave(session: Session, study: Study, site: UUID, now: float, *, withdraw: bool = False) -> None:
    """End a membership, which retires the key epoch: who leaves takes the key along.

    Args:
        withdraw: where sites that left still count, this one does not; also when it left before.
    """
    member = session.get(Membership, (study.id, site))
    if member is None:
        return
    if member.left is None:
        member.left = now
        epochs.retire(session, study.id, now, f"site:{site}", "a member left")
        audit.append(session, now, f"site:{site}", "study.left", {"study": str(study.id)})
    if withdraw and carrying.carries(study):
        carrying.drop(session, study, site, "its site withdrew it", f"site:{site}", now)
        carrying.release(session, study)


def refuse(session: Session, study: Study, site: Site, signed: Signed[manifest.StudyRefusal], now: float) -> None:
    """Note, once, that a site's policy is against the study.

    Raises:
        MessageRefused: about another study, or by another site.
        InvalidSignature: not signed with the site's key.
    """
    said = verify(PublicIdentity.from_hex(site.signing_key, site.hpke_key), signed)
    if (said.study, said.site) != (study.id, site.id):
        raise MessageRefused("The refusal names another study or another site than the one that sends it.")
    row = session.get(StudyRefusal, (study.id, site.id))
    if row is not None and row.signed == signed.to_json():
        return
    session.merge(StudyRefusal(study_id=study.id, site_id=site.id, signed=signed.to_json(), received=now))
    detail = {"study": str(study.id), "code": said.code, "words": said.words}
    audit.append(session, now, f"site:{site.id}", "study.refused", detail)


def refusals(session: Session, study: UUID) -> dict[UUID, str]:
    """What sites have against the study, in words."""
    rows = session.scalars(select(StudyRefusal).where(StudyRefusal.study_id == study).order_by(StudyRefusal.received))
    return {row.site_id: row.signed["message"]["words"] for row in rows}


def approve(session: Session, study: UUID, site: Site, signed: Signed[messages.Approval], now: float) -> None:
    """Keep a site's statement of the peers it approved, in place of its former one.

    Raises:
        MessageRefused: about another study, or by another site.
        InvalidSignature: not signed with the site's key.
    """
    statement = verify(PublicIdentity.from_hex(site.signing_key, site.hpke_key), signed)
    if (statement.study, statement.site) != (study, site.id):
        raise MessageRefused("The approval names another study or another site than the one that sends it.")
    row = session.get(Approval, (study, site.id))
    if row is None:
        row = Approval(study_id=study, site_id=site.id, signed={}, received=now)
        session.add(row)
    if row.signed == signed.to_json():
        return
    row.signed, row.received = signed.to_json(), now
    audit.append(session, now, f"site:{site.id}", "peers.approved", {"study": str(study), "peers": statement.peers})
