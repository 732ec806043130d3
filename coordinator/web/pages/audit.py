"""The audit log: looked through and verified."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from coordinator.api.public import Serving
from coordinator.errors import RequestInvalid
from coordinator.store import audit, audit_search, glance, operators, studies
from coordinator.store.audit import AuditBroken
from coordinator.store.audit_search import Search
from coordinator.web.rendering import PageRoute, render
from coordinator.web.visits import Looking

router = APIRouter(route_class=PageRoute)
_ROWS: Final = 50
_GLANCE: Final = 120  # characters
_DIGEST: Final = re.compile("[0-9a-f]{64}")
_Words = Annotated[str, Query(max_length=200)]
_Day = Annotated[str, Query(pattern=r"^(\d{4}-\d{2}-\d{2})?$", description="in UTC")]


@router.get("/audit")
def show(
    request: Request,
    services: Serving,
    _: Looking,
    actor: _Words = "",
    action: _Words = "",
    text: _Words = "",
    since: _Day = "",
    until: _Day = "",
    before: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
) -> Response:
    """Rows that fit, newest first; `until` is a day that still counts."""
    asked = {"actor": actor, "action": action, "text": text.strip(), "since": since, "until": until}
    search = Search(
        actor=actor,
        action=action.strip(),
        text=text.strip(),
        since=_day(since),
        until=_day(until, timedelta(days=1)),
    )

    def look(session: Session) -> dict[str, Any]:
        names = glance.site_names(session)
        known = {str(site): name for site, name in names.items()} | {
            str(study.id): study.name for study in studies.everyone(session)
        }
        rows = audit_search.find(session, search, before, _ROWS + 1)
        return {
            "rows": [
                {
                    "row": row,
                    "who": _who(row.actor, names),
                    "short": _short(row.detail, known),
                    "detail": _words(row.detail),
                }
                for row in rows[:_ROWS]
            ],
            "more": len(rows) > _ROWS,
            "total": audit_search.count(session, search),
            "names": names,
            "people": [operator.name for operator in operators.everyone(session)],
            "actions": audit_search.actions(session),
        }

    kept = {name: value for name, value in asked.items() if value}
    return render(request, "audit.html", asked=asked, kept=urlencode(kept), **services.store.read("audit", look))


@router.get("/audit/verify")
def verify(request: Request, services: Serving, _: Looking) -> Response:
    """Check the chain of hashes from the first row to the last."""
    try:
        rows, broken = services.store.read("verify audit", audit.verify), None
    except AuditBroken as error:
        rows, broken = None, str(error)
    newest = services.store.read("newest", lambda session: audit_search.find(session, Search(), None, 1))
    return render(request, "audit_verified.html", rows=rows, broken=broken, newest=newest[0] if newest else None)


def _day(text: str, plus: timedelta = timedelta(0)) -> float | None:
    try:
        return (datetime.fromisoformat(text).replace(tzinfo=UTC) + plus).timestamp() if text else None
    except (ValueError, OverflowError) as error:
        raise RequestInvalid(f"{text} is no day. Write it as YEAR-MONTH-DAY, as 2026-03-31.") from error


def _who(actor: str, names: dict[UUID, str]) -> str:
    kind, _, name = actor.partition(":")
    if kind != "site":
        return name or kind
    try:
        return names.get(UUID(name), name)
    except ValueError:
        return name


def _short(detail: dict[str, Any], known: Mapping[str, str]) -> list[tuple[str, str]]:
    """The detail at a glance: ids as the names they have, digests cut, longer things left to the whole."""
    found = []
    for key, value in detail.items():
        if isinstance(value, str) and value in known:
            found.append((key, known[value]))
        elif isinstance(value, str) and _DIGEST.fullmatch(value):
            found.append((key, value[:12]))
        elif isinstance(value, list):
            found.append((key, f"{len(value)}"))
        elif value is not None and not isinstance(value, dict) and len(str(value)) <= _GLANCE:
            found.append((key, str(value)))
    return found


def _words(detail: dict[str, Any]) -> list[tuple[str, str]]:
    """The detail's members as text, in their order."""
    return [
        (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in detail.items()
    ]
