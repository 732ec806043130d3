"""Sites: who they are, when they were seen, what they take part in."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy.orm import Session

from coordinator.api.public import Serving
from coordinator.errors import NotFound
from coordinator.services import Services
from coordinator.store import glance, invitations, sites, tables
from coordinator.web.rendering import PageRoute, go_to, render
from coordinator.web.visits import Acting, Looking
from crypto.identity import PublicIdentity

router = APIRouter(route_class=PageRoute)
_HOURS = 72.0  # that an invitation to enrol again is good


@router.get("/sites")
def show(request: Request, services: Serving, _: Looking) -> Response:
    """All sites, by name."""

    def look(session: Session) -> list[dict[str, Any]]:
        taking_part = glance.studies_of_sites(session)
        return [
            {"row": row, "words": _words(row).split("-"), "studies": taking_part[row.id]}
            for row in sites.everyone(session)
        ]

    recent = services.settings.recent_seen_seconds
    return render(request, "sites.html", sites=services.store.read("sites", look), recent=recent)


def _words(row: tables.Site) -> str:
    return PublicIdentity.from_hex(row.signing_key, row.hpke_key).words


@router.get("/sites/{site}/{act}")
def confirm(
    request: Request, services: Serving, _: Looking, site: UUID, act: Annotated[Literal["suspend", "reinvite"], Path()]
) -> Response:
    """Both interrupt studies, so they are asked for twice."""
    row = services.store.read("site", lambda session: _site(session, site))
    title, words, button = {
        "suspend": (
            f"Suspend {row.name}?",
            "All its calls are refused from this moment on, and every study that it is in gets a new key before its "
            "next round. It can be readmitted.",
            "Suspend",
        ),
        "reinvite": (
            f"Invite {row.name} to enrol again?",
            "For a hospital that lost its keys. When the invitation is used, the present keys are refused, its studies "
            "get new keys, and every peer has to approve it anew.",
            "Make the invitation",
        ),
    }[act]
    action = f"/sites/{row.id}/{act}"
    return render(request, "confirm.html", title=title, words=words, action=action, button=button, back="/sites")


@router.post("/sites/{site}/reinvite")
def reinvite(request: Request, services: Serving, form: Acting, site: UUID) -> Response:
    """An invitation with which the site takes new keys, shown this once."""
    now = services.clock.now()

    def renew(session: Session) -> tuple[tables.Site, str, float]:
        row = _site(session, site)
        return row, *invitations.renew(session, row, _HOURS, form.visit.actor, now)

    row, invitation, expires = services.store.run("reinvite site", renew)
    return render(
        request,
        "shown_once.html",
        title=f"Invitation for {row.name} to enrol again",
        secret=invitation,
        expires=expires,
        words=f"For {row.name} only. In a fresh home folder there:",
        command="pleura-participant enrol INVITATION",
        back="/sites",
    )


@router.post("/sites/{site}/suspend")
def suspend(services: Serving, form: Acting, site: UUID) -> Response:
    """Refuse all calls of a site from now on."""
    return _set(services, form, site, suspended=True)


@router.post("/sites/{site}/readmit")
def readmit(services: Serving, form: Acting, site: UUID) -> Response:
    """Admit a suspended site again."""
    return _set(services, form, site, suspended=False)


def _set(services: Services, form: Acting, site: UUID, *, suspended: bool) -> Response:
    now = services.clock.now()
    services.store.run(
        "suspend site", lambda session: sites.set_suspended(session, str(site), suspended, form.visit.actor, now)
    )
    return go_to("/sites")


def _site(session: Session, site: UUID) -> tables.Site:
    row = sites.get(session, site)
    if row is None:
        raise NotFound(f"There is no site {site}.")
    return row
