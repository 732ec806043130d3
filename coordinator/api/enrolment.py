"""How sites get in."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from coordinator.api.openapi import refusals
from coordinator.api.paging import LINKED, Paged
from coordinator.api.public import Serving
from coordinator.api.values import Enrolled, Enrolment, Invitation, InvitationWish, ListedInvitation, Site, Text
from coordinator.auth import CallingAuditor, CallingOperator
from coordinator.errors import (
    InvitationExpired,
    InvitationInvalid,
    InvitationUsed,
    NameTaken,
    RateLimited,
    RequestInvalid,
)
from coordinator.services import address_of
from coordinator.store import invitations, lists, sites
from coordinator.store.tables import SiteState
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


@router.get("/invitations", responses=LINKED | refusals(RequestInvalid))
def list_invitations(
    services: Serving,
    _: CallingOperator,
    page: Paged,
    after: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="the last page's last `hash`")] = None,
    used: Annotated[bool | None, Query(description="those that a site enrolled with, or those that none has")] = None,
) -> list[ListedInvitation]:
    """All invitations, oldest first, by their hashes: in clear they were shown once."""
    rows = services.store.read("invitations", lambda session: lists.invitations(session, page.rows, after, used))
    return [ListedInvitation.model_validate(row) for row in page.cut(rows, lambda row: row.hash)]


@router.get("/sites", responses=LINKED | refusals(RequestInvalid))
def list_sites(
    services: Serving,
    _: CallingAuditor,
    page: Paged,
    after: Annotated[UUID | None, Query(description="the last page's last `id`")] = None,
    state: SiteState | None = None,
    name: Annotated[Text | None, Query(description="part of it")] = None,
) -> list[Site]:
    """All sites, by name."""
    rows = services.store.read("sites", lambda session: lists.sites(session, page.rows, after, state, name))
    return [Site.of(row) for row in page.cut(rows, lambda row: row.id)]
