"""How sites get in."""

from __future__ import annotations

from fastapi import APIRouter, Request

from coordinator.api.openapi import refusals
from coordinator.api.public import Serving
from coordinator.api.values import Enrolled, Enrolment, Invitation, InvitationWish, Site
from coordinator.auth import CallingAuditor, CallingOperator
from coordinator.errors import InvitationExpired, InvitationInvalid, InvitationUsed, NameTaken, RateLimited
from coordinator.services import address_of
from coordinator.store import invitations, sites
from crypto.identity import PublicIdentity

router = APIRouter(prefix="/v1", tags=["enrolment"])


@router.post(
    "/enrolments",
    status_code=201,
    responses=refusals(InvitationInvalid, InvitationUsed, InvitationExpired, NameTaken, RateLimited),
)
def enrol(services: Serving, request: Request, wish: Enrolment) -> Enrolled:
    """Become a site, or take new keys as one, with an invitation and a proof that the keys are one's own."""
    services.enrolments.take(address_of(request))
    public = PublicIdentity.from_hex(wish.signing_key, wish.hpke_key)
    now, proof = services.clock.now(), bytes.fromhex(wish.proof)
    site, again = services.store.run(
        "enrol", lambda session: sites.enrol(session, wish.invitation, wish.name, public, proof, now)
    )
    return Enrolled(site=site.id, coordinator=services.coordinator, again=again)


@router.post("/invitations", status_code=201)
def invite(services: Serving, operator: CallingOperator, wish: InvitationWish) -> Invitation:
    """A new invitation for one site. It is shown here and never again."""
    now, actor = services.clock.now(), f"operator:{operator.name}"
    invitation, expires = services.store.run(
        "invite", lambda session: invitations.create(session, wish.note, wish.hours, actor, now)
    )
    return Invitation(invitation=invitation, expires=expires)


@router.get("/sites")
def list_sites(services: Serving, _: CallingAuditor) -> list[Site]:
    """All sites, by name."""
    return [Site.of(row) for row in services.store.read("sites", sites.everyone)]
