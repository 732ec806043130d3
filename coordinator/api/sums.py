"""Summed parts, for members that open them themselves; and what an opener made of them under `ckks`.

Under CKKS schemes no part of one site's body ever goes to another: all hold the key. A sum does, where the scheme or
the study's release has members open it.
"""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from coordinator.api.bodies import CheckedOctets, blob
from coordinator.api.contributions import Number
from coordinator.api.openapi import gives_octets, refusals, takes_octets
from coordinator.api.places import ThisAttempt
from coordinator.api.public import Serving
from coordinator.auth import CallingSite
from coordinator.errors import Conflict, DigestMismatch, DiskFull, NotAMember, NotFound, PartDiffers, PartSize
from coordinator.store import answers, contributions
from coordinator.store.blobs import part_key, sum_key
from coordinator.store.contributions import Place
from coordinator.store.kept import plan_of
from coordinator.store.tables import Round, Study
from crypto.layout import Layout
from crypto.schemes import scheme

router = APIRouter(prefix="/v1/studies/{study}/rounds/{round}/{attempt}", tags=["answers"])


@router.get(
    "/sums/{number}",
    response_class=Response,
    responses=gives_octets("The part of the sum") | refusals(NotFound, NotAMember),
)
def fetch_sum(services: Serving, site: CallingSite, here: ThisAttempt, number: Number) -> Response:
    """One part of the sum over the ballot's contributors, while the attempt is being opened."""

    def find(session: Session) -> str:
        row = here.row(session)
        contributions.check_on_roster(row, site.id)
        answers.shown_ballot(row)
        plan = plan_of(row)
        if plan.scheme != "ckks" and plan.release != "members":
            raise NotFound("In this study the coordinator opens the sum: it serves none.")
        return sum_key(row.id, number)

    gone = "There is no such part of the sum, or the attempt has ended and it is deleted."
    return blob(services, services.store.read("find sum", find), gone)


@router.put(
    "/opened/{number}",
    status_code=204,
    responses=refusals(NotFound, NotAMember, DigestMismatch, PartSize, PartDiffers, Conflict, DiskFull),
    openapi_extra=takes_octets(),
)
def put_opened(services: Serving, site: CallingSite, here: ThisAttempt, number: Number, body: CheckedOctets) -> None:
    """One opened part under `ckks`, before the answer that lists it. Again with the same bytes: 204."""
    data, digest = body

    def find(session: Session) -> Place | None:
        row = here.row(session)
        contributions.check_on_roster(row, site.id)
        answers.shown_ballot(row)
        _check_opened(row, session.get_one(Study, row.study_id), number, len(data))
        place = Place(row.id, site.id, "opened", number)
        if contributions.already_there(session, place, digest):
            return None
        answers.check_opening(row)  # before anything is written, as an ended attempt is not swept again
        return place

    place = services.store.read("find opened part", find)
    if place is not None:
        stored = services.blobs.put_bytes(part_key(place.round_id, place.site, place.kind, place.number), data)
        services.store.run("note opened part", lambda s: answers.note_blob(s, place, digest, stored.size))


def _check_opened(row: Round, study: Study, number: int, size: int) -> None:
    plan, layout = plan_of(row), Layout.from_json(study.layout)
    if plan.scheme != "ckks":
        raise NotFound(f"Under {plan.scheme} an answer has no opened parts.")
    sizes = scheme(plan.scheme).opened_sizes(plan, layout)
    if number >= len(sizes) or size != sizes[number]:
        expected = sizes[number] if number < len(sizes) else None
        raise PartSize(
            f"There are opened parts 0 to {len(sizes) - 1}, number {number} with {expected} bytes; this has {size}.",
            {"expected": expected, "received": size},
        )
