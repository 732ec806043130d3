"""Who is let in: invitations for sites, tokens for operators and auditors."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from coordinator.api.operators import OperatorWish
from coordinator.api.public import Serving
from coordinator.api.values import InvitationWish
from coordinator.errors import CoordinatorError
from coordinator.services import Services
from coordinator.store import glance, invitations, operators, tables
from coordinator.web.rendering import PageRoute, faults_of, go_to, render
from coordinator.web.visits import Acting, Looking

router = APIRouter(route_class=PageRoute)


@router.get("/settings")
def show(request: Request, services: Serving, _: Looking) -> Response:
    """Invitations and operators, those that are over among them."""
    return _page(request, services)


@router.post("/settings/invitations")
def invite(request: Request, services: Serving, form: Acting) -> Response:
    """An invitation for one site, shown this once."""
    try:
        wish = InvitationWish.model_validate(form.given)
    except ValidationError as error:
        return _page(request, services, invitation_faults=faults_of(error), values=form.given)
    now = services.clock.now()
    invitation, expires = services.store.run(
        "invite", lambda session: invitations.create(session, wish.note, wish.hours, form.visit.actor, now)
    )
    return render(
        request,
        "shown_once.html",
        title="Invitation for one site",
        secret=invitation,
        expires=expires,
        words="Send it to the hospital by a way that you trust. There:",
        command="pleura-participant enrol INVITATION",
        back="/settings",
    )


@router.post("/settings/invitations/{identifier}/withdraw")
def withdraw(services: Serving, form: Acting, identifier: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> Response:
    """Make an invitation that nobody used good for nothing."""
    now = services.clock.now()
    services.store.run(
        "withdraw invitation", lambda session: invitations.withdraw(session, identifier, form.visit.actor, now)
    )
    return go_to("/settings")


@router.post("/settings/operators")
def add_operator(request: Request, services: Serving, form: Acting) -> Response:
    """A new operator's or auditor's token, shown this once."""
    now = services.clock.now()
    try:
        wish = OperatorWish.model_validate(form.given)
        expires = now + wish.days * operators.DAY
        token = services.store.run(
            "add operator",
            lambda session: operators.add(session, wish.name, wish.role, form.visit.actor, now, expires),
        )
    except ValidationError as error:
        return _page(request, services, operator_faults=faults_of(error), values=form.given)
    except CoordinatorError as error:
        return _page(request, services, operator_faults=[error.detail], values=form.given)
    return render(
        request,
        "shown_once.html",
        title=f"Token of {wish.name}, {wish.role}",
        secret=token,
        expires=expires,
        words=f"With it {wish.name} logs in here, and programs call the API.",
        command=None,
        back="/settings",
    )


@router.get("/settings/operators/{name}/revoke")
def confirm_revoke(request: Request, _: Looking, name: str) -> Response:
    """A person loses access, so it is asked for twice."""
    return render(
        request,
        "confirm.html",
        title=f"Revoke {name}?",
        words="The token and every login with it are good for nothing from this moment on.",
        action=f"/settings/operators/{name}/revoke",
        button="Revoke",
        back="/settings",
    )


@router.post("/settings/operators/{name}/revoke")
def revoke(services: Serving, form: Acting, name: str) -> Response:
    """End somebody's access."""
    now = services.clock.now()
    services.store.run("revoke operator", lambda session: operators.revoke(session, name, form.visit.actor, now))
    return go_to("/settings")


def _page(request: Request, services: Services, **shown: Any) -> Response:
    now = services.clock.now()

    def look(session: Session) -> dict[str, Any]:
        names = glance.site_names(session)
        return {
            "invitations": [
                {"row": row, "state": _standing(row, now), "site": names.get(row.used_by) if row.used_by else None}
                for row in invitations.everyone(session)
            ],
            "operators": [{"row": row, "state": operators.standing(row, now)} for row in operators.everyone(session)],
        }

    content = {"invitation_faults": [], "operator_faults": [], "values": {}} | shown
    status = 422 if shown else 200
    return render(request, "settings.html", status, **content, **services.store.read("settings", look))


def _standing(row: tables.Invitation, now: float) -> str:
    if row.used_by is not None:
        return "used"
    return "expired" if row.expires <= now else "open"
