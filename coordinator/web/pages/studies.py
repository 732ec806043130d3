"""Studies at a glance, each one live, and the buttons that move them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy.orm import Session

from coordinator.api.public import Serving
from coordinator.services import Services
from coordinator.store import attempts, contributions, glance, joining, memberships, studies, tables
from coordinator.web.epsilons import epsilons_of
from coordinator.web.figures import auc_at_a_glance, learning_curves, measured, performance
from coordinator.web.rendering import PageRoute, go_to, render
from coordinator.web.round_views import about_round
from coordinator.web.visits import Acting, Looking
from coordinator.web.waiting import waiting_for
from crypto.schemes import SCHEMES

router = APIRouter(route_class=PageRoute)
Action = Annotated[studies.Action, Path()]


@router.get("/")
def overview(request: Request, services: Serving, _: Looking) -> Response:
    """All studies, newest first."""

    def look(session: Session) -> list[dict[str, Any]]:
        names = glance.site_names(session)
        return [_card(services, session, row, names) for row in reversed(studies.everyone(session))]

    return render(request, "studies.html", studies=services.store.read("studies", look))


def _card(services: Services, session: Session, row: tables.Study, names: dict[UUID, str]) -> dict[str, Any]:
    found = glance.attempts(session, row.id)
    return {
        "row": row,
        "trust": SCHEMES[row.scheme].trust,
        "members": len(memberships.seen(session, row.id)),
        "attempts": found[::-1],
        "auc": auc_at_a_glance(measured(found)),
        "waiting": waiting_for(services, session, row, names),
    }


@router.get("/studies/{study}")
def show(request: Request, services: Serving, _: Looking, study: UUID) -> Response:
    """One study: how its model does, how its rounds went, and who did what in the present one."""

    def look(session: Session) -> dict[str, Any]:
        row, names = studies.get(session, study), glance.site_names(session)
        card = _card(services, session, row, names)
        found = measured(card["attempts"][::-1])
        return card | {
            "names": names,
            "disputes": glance.disputes(session, row.id),
            "curves": learning_curves(found),
            "measured": found[::-1],
            "performance": performance(session, row, found),
            "round": _present_round(session, row, card["attempts"]),
            "privacy": epsilons_of(row, card["attempts"][::-1]),
            "refused": joining.refusals(session, row.id),
            "sites": [site for _, site in memberships.members(session, row.id)],
        }

    return render(request, "study.html", study=services.store.read("study page", look))


def _present_round(session: Session, row: tables.Study, found: list[glance.Attempt]) -> dict[str, Any] | None:
    """The attempt under way, or else the last one."""
    if not found:
        return None
    newest = attempts.active(session, row.id)
    if newest is None:
        newest = contributions.attempt(session, row.id, found[0].number, found[0].attempt)
    return about_round(session, newest, found)


@router.get("/studies/{study}/stop")
def confirm_stop(request: Request, services: Serving, visit: Looking, study: UUID) -> Response:
    """Stopping cannot be taken back, so it is asked for twice."""
    row = services.store.read("study", lambda session: studies.get(session, study))
    return render(
        request,
        "confirm.html",
        title=f"Stop {row.name}?",
        words="A stopped study never runs again: the round under way fails, and no other follows. "
        "Its last model, its figures and its log stay.",
        action=f"/studies/{row.id}/stop",
        button="Stop for good",
        back=f"/studies/{row.id}",
    )


@router.post("/studies/{study}/{action}")
def move(services: Serving, form: Acting, study: UUID, action: Action) -> Response:
    """Start, pause, resume or stop."""
    now = services.clock.now()
    services.store.run(
        f"{action} study",
        lambda session: studies.move(session, studies.get(session, study), action, form.visit.actor, now),
    )
    return go_to(f"/studies/{study}")
