"""One attempt at a round, with all that is known of it."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy.orm import Session

from coordinator.api.public import Serving
from coordinator.store import contributions, glance, studies
from coordinator.web.rendering import PageRoute, render
from coordinator.web.round_views import about_round
from coordinator.web.visits import Looking

router = APIRouter(route_class=PageRoute)
_Number = Annotated[int, Path(ge=1, lt=2**31)]


@router.get("/studies/{study}/rounds/{number}/{attempt}")
def show(request: Request, services: Serving, _: Looking, study: UUID, number: _Number, attempt: _Number) -> Response:
    """Who did what and when, what came in, what was cut off."""

    def look(session: Session) -> dict[str, Any]:
        row = contributions.attempt(session, study, number, attempt)
        found = glance.attempts(session, study)
        return {
            "study": studies.get(session, study),
            "round": about_round(session, row, found),
            "names": glance.site_names(session),
        }

    return render(request, "round.html", **services.store.read("round page", look))
