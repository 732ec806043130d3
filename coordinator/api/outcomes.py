"""Rounds of studies released to their members: answers sealed from member to member, and what each derived."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from coordinator.api.bodies import CheckedOctets, blob, signed
from coordinator.api.contributions import Number
from coordinator.api.openapi import gives_octets, refusals, takes, takes_octets
from coordinator.api.places import ThisAttempt
from coordinator.api.public import Serving
from coordinator.api.rounds import seen
from coordinator.auth import AnyCaller, CallingSite
from coordinator.errors import (
    AnswerDiffers,
    Conflict,
    DigestMismatch,
    DiskFull,
    MessageRefused,
    NotAMember,
    NotFound,
    PartSize,
    PartsMissing,
    VotesMissing,
)
from coordinator.store import answers, contributions, outcomes
from coordinator.store.blobs import part_key
from coordinator.store.contributions import Place
from coordinator.store.kept import roster_of
from coordinator.store.tables import Opening, Round, Study
from crypto.errors import InvalidSignature
from crypto.layout import Layout
from crypto.outcome import Outcome, SealedAnswer
from crypto.wire import Signed

router = APIRouter(prefix="/v1/studies/{study}/rounds/{round}/{attempt}", tags=["outcomes"])
_NO_ENVELOPE: Final = "No such envelope is for this site, or the attempt has ended and it is deleted."


@router.put(
    "/sealed/{number}",
    status_code=204,
    responses=refusals(
        NotFound, NotAMember, DigestMismatch, PartSize, MessageRefused, AnswerDiffers, Conflict, DiskFull
    ),
    openapi_extra=takes_octets(),
)
def put_envelope(services: Serving, site: CallingSite, here: ThisAttempt, number: Number, body: CheckedOctets) -> None:
    """This site's answer, sealed to the member at that place in the roster. Until the answer is in, the last counts."""
    data, digest = body

    def find(session: Session) -> Place:
        row = here.row(session)
        contributions.check_on_roster(row, site.id)
        answers.shown_ballot(row)
        outcomes.check_may_seal(session, row, site.id)
        _check_size(row, number, len(data))
        return Place(row.id, site.id, "sealed", number)

    place = services.store.read("find envelope", find)
    stored = services.blobs.put_bytes(part_key(place.round_id, place.site, place.kind, place.number), data)
    services.store.run("note envelope", lambda session: outcomes.note_envelope(session, place, digest, stored.size))


@router.put(
    "/sealed-answer",
    status_code=204,
    responses=refusals(NotFound, NotAMember, MessageRefused, InvalidSignature, PartsMissing, AnswerDiffers, Conflict),
    openapi_extra=takes(SealedAnswer),
)
def answer(
    services: Serving,
    site: CallingSite,
    here: ThisAttempt,
    sealed: Annotated[Signed[SealedAnswer], signed(SealedAnswer)],
) -> None:
    """The list of this site's envelopes: with it the answer counts. `GET .../openings` has those of all members."""

    def give(session: Session) -> None:
        outcomes.answer(session, here.row(session), site.id, sealed, services.clock.now())

    services.store.run("answer sealed", give)


@router.get(
    "/sealed/{sender}/{number}",
    response_class=Response,
    responses=gives_octets("The envelope") | refusals(NotFound, NotAMember),
)
def fetch_envelope(services: Serving, site: CallingSite, here: ThisAttempt, sender: UUID, number: Number) -> Response:
    """A member's answer sealed to this site, whose place in the roster `number` is."""

    def find(session: Session) -> str:
        row = here.row(session)
        contributions.check_on_roster(row, site.id)
        members = roster_of(row).members
        place = Place(row.id, sender, "sealed", number)
        answered = session.get(Opening, (row.id, sender)) is not None
        mine = number < len(members) and members[number].site == site.id
        if not (mine and answered) or contributions.find_part(session, place) is None:
            raise NotFound(_NO_ENVELOPE)
        return part_key(place.round_id, place.site, place.kind, place.number)

    return blob(services, services.store.read("find envelope", find), _NO_ENVELOPE)


@router.put(
    "/outcome",
    status_code=204,
    responses=refusals(NotFound, NotAMember, MessageRefused, InvalidSignature, AnswerDiffers, VotesMissing, Conflict),
    openapi_extra=takes(Outcome),
)
def give_outcome(
    services: Serving,
    site: CallingSite,
    here: ThisAttempt,
    outcome: Annotated[Signed[Outcome], signed(Outcome)],
) -> None:
    """What this member made of the ballot itself: the new model's digest, and the pooled counts."""

    def give(session: Session) -> None:
        row = here.row(session)
        layout = Layout.from_json(session.get_one(Study, row.study_id).layout)
        outcomes.give(session, row, site.id, outcome, layout, services.clock.now())

    services.store.run("take outcome", give)


@router.get("/outcomes", responses=refusals(NotFound, NotAMember))
def show_outcomes(services: Serving, caller: AnyCaller, here: ThisAttempt) -> list[dict[str, Any]]:
    """All Signed[Outcome], by site: members see for themselves whether more than half derived the same model."""
    return services.store.read("outcomes", lambda session: outcomes.everyone(session, seen(session, caller, here)))


def _check_size(row: Round, number: int, size: int) -> None:
    members = len(roster_of(row).members)
    if number >= members or not 0 < size <= outcomes.ENVELOPE_BYTES:
        raise PartSize(
            f"An answer has envelopes 0 to {members - 1}, of at most {outcomes.ENVELOPE_BYTES} bytes; this is number "
            f"{number} with {size}.",
            {"expected": outcomes.ENVELOPE_BYTES, "received": size},
        )
