"""Spot checks under `lwe-shamir`: body parts and counts of a completed round for its members, and what they found."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from coordinator.api.bodies import blob, signed
from coordinator.api.contributions import Number
from coordinator.api.openapi import gives_octets, refusals, takes
from coordinator.api.places import ThisAttempt
from coordinator.api.public import Serving
from coordinator.api.rounds import seen
from coordinator.auth import AnyCaller, CallingSite
from coordinator.errors import AnswerDiffers, Conflict, MessageRefused, NotAMember, NotFound
from coordinator.store import spot_checks
from coordinator.store.blobs import part_key
from coordinator.store.contributions import Place
from crypto.errors import InvalidSignature
from crypto.outcome import SpotCheck
from crypto.wire import Signed

router = APIRouter(prefix="/v1/studies/{study}/rounds/{round}/{attempt}", tags=["spot checks"])


@router.get(
    "/parts/{contributor}/{number}",
    response_class=Response,
    responses=gives_octets("The body part") | refusals(NotFound, NotAMember),
)
def fetch_part(services: Serving, site: CallingSite, here: ThisAttempt, contributor: UUID, number: Number) -> Response:
    """A contributor's body part, for the members of a round that is complete, as long as it is kept."""

    def find(session: Session) -> Place:
        return spot_checks.find_body(session, here.row(session), site.id, contributor, number)

    place = services.store.read("find body part", find)
    return blob(services, part_key(place.round_id, place.site, place.kind, place.number), spot_checks.gone().detail)


@router.get("/counts", responses=refusals(NotFound, NotAMember))
def counts(services: Serving, caller: AnyCaller, here: ThisAttempt) -> dict[str, Any]:
    """The counts pooled over the contributors: "samples", "capped_samples", "clipped", and by name the "recipe"'s."""
    return services.store.read("counts", lambda session: spot_checks.counts(session, seen(session, caller, here)))


@router.put(
    "/spot-check",
    status_code=204,
    responses=refusals(NotFound, NotAMember, MessageRefused, InvalidSignature, AnswerDiffers, Conflict),
    openapi_extra=takes(SpotCheck),
)
def report(
    services: Serving, site: CallingSite, here: ThisAttempt, check: Annotated[Signed[SpotCheck], signed(SpotCheck)]
) -> None:
    """What this site found when it opened one part itself and compared it with the published model."""

    def keep(session: Session) -> None:
        spot_checks.report(session, here.row(session), site.id, check, services.clock.now())

    services.store.run("report spot check", keep)
