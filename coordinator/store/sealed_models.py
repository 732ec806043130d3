"""Models that only members hold, on their way in envelopes from members that have them to members that lack them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import Conflict, MessageRefused, NotFound
from coordinator.store import audit, memberships, models
from coordinator.store.tables import Model, ModelRequest, SealedModel, Site, Study
from crypto import outcome as messages
from crypto.identity import PublicIdentity, verify
from crypto.wire import Signed


def current(session: Session, study: Study, digest: str) -> Model:
    """The study's current model, if it is that one and only members hold it.

    Raises:
        NotFound: no round of this study made it, or its file is served here.
        Conflict: it is not the current one any more.
    """
    model = models.find(session, digest)
    if model is None or model.study_id != study.id or not models.held_by_members(session, model):
        raise NotFound(f"No model {digest[:12]}... of this study is passed from member to member.")
    if digest != study.current_model:
        raise Conflict(f"The model {digest[:12]}... is not the study's current one any more. Ask for that one.")
    return model


def request(session: Session, study: Study, digest: str, site: UUID, now: float) -> None:
    """Note that a member lacks the current model.

    Raises:
        NotAMember, NotFound, Conflict: as `current`.
    """
    memberships.check_member(session, study.id, site)
    current(session, study, digest)
    if session.get(ModelRequest, (study.id, digest, site)) is None:
        session.add(ModelRequest(study_id=study.id, model=digest, site_id=site, asked=now))
        _log(session, study, site, "model.requested", digest, now)


def withdraw(session: Session, study: Study, digest: str, site: UUID, now: float) -> None:
    """The member has the model: what was sealed to it is not needed any more."""
    asked = session.get(ModelRequest, (study.id, digest, site))
    if asked is None:
        return
    session.delete(asked)
    for row in _sealed_to(session, study.id, digest, site):
        session.delete(row)
    _log(session, study, site, "model.received", digest, now)


def wanted(session: Session, study: Study) -> list[str]:
    """Active members that lack the current model, sorted; none where the coordinator serves it."""
    if study.release != "members":
        return []
    query = select(ModelRequest.site_id).where(
        ModelRequest.study_id == study.id, ModelRequest.model == study.current_model
    )
    lacking = set(session.scalars(query))
    return [str(site.id) for _, site in memberships.members(session, study.id) if site.id in lacking]


def offers(session: Session, study: Study) -> dict[UUID, list[str]]:
    """By member: those that sealed the current model to it, the first first."""
    found: dict[UUID, list[str]] = {}
    if study.release != "members":
        return found
    row = SealedModel
    query = select(row.recipient, row.holder).where(row.study_id == study.id, row.model == study.current_model)
    for recipient, holder in session.execute(query.order_by(row.received, row.holder)):
        found.setdefault(recipient, []).append(str(holder))
    return found


def listed(session: Session, study: Study, digest: str, recipient: UUID) -> list[dict[str, Any]]:
    """The Signed[SealedModel] of every envelope for a member, the first first."""
    return [row.signed for row in _sealed_to(session, study.id, digest, recipient)]


def check_may_seal(session: Session, study: Study, digest: str, recipient: UUID, holder: UUID) -> Model:
    """The model, if this member may seal it to that one.

    Raises:
        NotAMember, NotFound, Conflict: as `current`; the recipient did not ask; or this member sealed it before.
    """
    memberships.check_member(session, study.id, holder)
    model = current(session, study, digest)
    if str(recipient) not in wanted(session, study):
        raise Conflict("That member does not ask for this model, or not any more.")
    if session.get(SealedModel, (study.id, digest, recipient, holder)) is not None:
        raise Conflict("This site sealed the model to that member before; that envelope stays.")
    return model


def note(session: Session, study: Study, holder: Site, signed: Signed[messages.SealedModel], now: float) -> None:
    """Announce an envelope, whose octets are here, to its recipient.

    Raises:
        MessageRefused: it names another study or holder than this.
        InvalidSignature: not signed with the holder's key.
        NotAMember, NotFound, Conflict: as `check_may_seal`.
    """
    sealed = verify(PublicIdentity.from_hex(holder.signing_key, holder.hpke_key), signed)
    if (sealed.study, sealed.holder) != (study.id, holder.id):
        raise MessageRefused("The message names another study or another site than the one that sends it.")
    check_may_seal(session, study, sealed.model, sealed.recipient, holder.id)
    session.add(
        SealedModel(
            study_id=study.id,
            model=sealed.model,
            recipient=sealed.recipient,
            holder=holder.id,
            signed=signed.to_json(),
            received=now,
        )
    )
    _log(session, study, holder.id, "model.sealed", sealed.model, now, recipient=str(sealed.recipient))


def forget(session: Session, study: UUID, digest: str) -> None:
    """Nobody needs envelopes of this model any more: a later one took its place."""
    for table in (SealedModel, ModelRequest):
        for row in session.scalars(select(table).where(table.study_id == study, table.model == digest)):
            session.delete(row)


def _sealed_to(session: Session, study: UUID, digest: str, recipient: UUID) -> list[SealedModel]:
    query = select(SealedModel).where(
        SealedModel.study_id == study, SealedModel.model == digest, SealedModel.recipient == recipient
    )
    return list(session.scalars(query.order_by(SealedModel.received, SealedModel.holder)))


def _log(session: Session, study: Study, site: UUID, action: str, digest: str, now: float, **more: str) -> None:
    audit.append(session, now, f"site:{site}", action, {"study": str(study.id), "model": digest, **more})
