"""What the API lists, in pages: rows behind the one that `after` names, in an order that never changes for a row."""

from __future__ import annotations

from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Select, exists, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from coordinator.errors import RequestInvalid
from coordinator.store.tables import (
    Audit,
    Base,
    Invitation,
    Model,
    Operator,
    Round,
    RoundState,
    Site,
    SiteState,
    Study,
    StudyState,
)

MOST: Final = 500  # rows to a page
T = TypeVar("T", bound=Base)


def studies(
    session: Session, limit: int, after: UUID | None, state: StudyState | None, name: str | None
) -> list[Study]:
    """Oldest first. `name`: those that contain it."""
    query = _filtered(select(Study), (Study.state, state))
    if name is not None:
        query = query.where(Study.name.icontains(name, autoescape=True))
    return _page(session, query, Study, [Study.created, Study.id], after, limit)


def rounds(session: Session, study: UUID, limit: int, after: str | None, state: RoundState | None) -> list[Round]:
    """Attempts of a study, oldest first. `after`: "ROUND.ATTEMPT"."""
    query = _filtered(select(Round).where(Round.study_id == study), (Round.state, state))
    if after is not None:
        place = [int(number) for number in after.split(".")]
        query = query.where(tuple_(Round.number, Round.attempt) > tuple_(*place))
    return list(session.scalars(query.order_by(Round.number, Round.attempt).limit(limit)))


def sites(session: Session, limit: int, after: UUID | None, state: SiteState | None, name: str | None) -> list[Site]:
    """By name. `name`: those that contain it."""
    query = _filtered(select(Site), (Site.state, state))
    if name is not None:
        query = query.where(Site.name.icontains(name, autoescape=True))
    return _page(session, query, Site, [Site.name], after, limit)


def models(session: Session, limit: int, after: str | None, study: UUID | None) -> list[Model]:
    """Oldest first. `study`: those that its rounds made, and the one that it began with."""
    query = select(Model)
    if study is not None:
        begun = exists().where(Study.id == study, Study.first_model == Model.digest)
        query = query.where((Model.study_id == study) | begun)
    return _page(session, query, Model, [Model.created, Model.digest], after, limit)


def invitations(session: Session, limit: int, after: str | None, used: bool | None) -> list[Invitation]:
    """Oldest first. `used`: those that a site enrolled with, or those that none has."""
    query = select(Invitation)
    if used is not None:
        query = query.where(Invitation.used_by.is_not(None) if used else Invitation.used_by.is_(None))
    return _page(session, query, Invitation, [Invitation.created, Invitation.hash], after, limit)


def operators(session: Session, limit: int, after: str | None) -> list[Operator]:
    """By name."""
    return _page(session, select(Operator), Operator, [Operator.name], after, limit)


def audit(
    session: Session, limit: int, after: int, action: str | None, actor: str | None, since: float | None
) -> list[Audit]:
    """Oldest first. `action` may end in a dot, for all of a kind. `since`: Unix seconds."""
    query = _filtered(select(Audit).where(Audit.seq > after), (Audit.actor, actor))
    if action is not None:
        of_kind = Audit.action.startswith(action, autoescape=True)
        query = query.where(of_kind if action.endswith(".") else Audit.action == action)
    if since is not None:
        query = query.where(Audit.time >= since)
    return list(session.scalars(query.order_by(Audit.seq).limit(limit)))


def _filtered(query: Select[T], *wanted: tuple[InstrumentedAttribute[Any], Any]) -> Select[T]:
    for column, value in wanted:
        if value is not None:
            query = query.where(column == value)
    return query


def _page(
    session: Session,
    query: Select[T],
    table: type[T],
    order: list[InstrumentedAttribute[Any]],
    after: object,
    limit: int,
) -> list[T]:
    if after is not None:
        last = session.get(table, after)
        if last is None:
            raise RequestInvalid(f"`after` names nothing that is here: {after}. Begin with the first page again.")
        query = query.where(tuple_(*order) > tuple_(*(getattr(last, column.key) for column in order)))
    return list(session.scalars(query.order_by(*order).limit(limit)))
