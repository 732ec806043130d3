"""The audit log as people look through it: newest first, by who, what, when and any word."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Text, cast, func, select
from sqlalchemy.orm import Session

from coordinator.store.tables import Audit

_KINDS_LOOKED_AT: Final = 2000  # newest rows from which the actions that people may choose from are taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What rows to find. `actor` is exact, `action` the beginning of one, `text` any part of the detail or the hash;
    times are Unix seconds, `since` within and `until` without."""

    actor: str = ""
    action: str = ""
    text: str = ""
    since: float | None = None
    until: float | None = None


def newest(session: Session) -> int:
    """The number of the last row, 0 before the first. Whatever happens that people would want to see, this grows."""
    return session.scalar(select(func.max(Audit.seq))) or 0


def find(session: Session, search: Search, before: int | None, limit: int) -> list[Audit]:
    """At most `limit` rows, newest first; those with lower numbers than `before` where it is given."""
    query = select(Audit).where(*_conditions(search)).order_by(Audit.seq.desc()).limit(limit)
    return list(session.scalars(query if before is None else query.where(Audit.seq < before)))


def count(session: Session, search: Search) -> int:
    return session.scalar(select(func.count()).select_from(Audit).where(*_conditions(search))) or 0


def actions(session: Session) -> list[str]:
    """What kinds of rows there are lately."""
    lately = select(Audit.action).where(Audit.seq > newest(session) - _KINDS_LOOKED_AT)
    return sorted(session.scalars(lately.distinct()))


def _conditions(search: Search) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if search.actor:
        found.append(Audit.actor == search.actor)
    if search.action:
        found.append(Audit.action.istartswith(search.action, autoescape=True))
    if search.text:
        spelt = json.dumps(search.text)[1:-1]  # as the database has it within the detail's JSON
        in_detail = cast(Audit.detail, Text).icontains(spelt, autoescape=True)
        found.append(in_detail | Audit.hash.startswith(search.text.lower(), autoescape=True))
    if search.since is not None:
        found.append(Audit.time >= search.since)
    if search.until is not None:
        found.append(Audit.time < search.until)
    return found
