"""What sites say to a ballot: votes, answers, refusals."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from sqlalchemy.orm import Session

from coordinator.api.bodies import signed
from coordinator.api.openapi import refusals, takes
from coordinator.api.places import ThisAttempt
from coordinator.api.public import Serving
from coordinator.api.rounds import seen
from coordinator.auth import AnyCaller, CallingSite
from coordinator.errors import AnswerDiffers, Conflict, MessageRefused, NotAMember, NotFound, VotesMissing
from coordinator.store import answers
from crypto.errors import InvalidSignature
from crypto.manifest import Answer, BodyOpening, Opening, Refusal, ShareOpening, ShareRefusal, Vote
from crypto.wire import Signed

router = APIRouter(prefix="/v1/studies/{study}/rounds/{round}/{attempt}", tags=["answers"])
_REFUSALS = refusals(NotFound, NotAMember, MessageRefused, InvalidSignature)


@router.put(
    "/vote",
    status_code=204,
    responses=refusals(NotFound, NotAMember, MessageRefused, InvalidSignature, AnswerDiffers, Conflict),
    openapi_extra=takes(Vote),
)
def vote(services: Serving, site: CallingSite, here: ThisAttempt, vote: Annotated[Signed[Vote], signed(Vote)]) -> None:
    """This site was shown the ballot, and it passes all its checks."""

    def cast(session: Session) -> None:
        row = here.row(session)
        answers.vote(session, row, site.id, vote, services.clock.now())

    services.store.run("vote", cast)


@router.get("/votes", responses=refusals(NotFound, NotAMember))
def votes(services: Serving, caller: AnyCaller, here: ThisAttempt) -> list[dict[str, Any]]:
    """All Signed[Vote] for the ballot, by site: nobody opens before more than half of the roster is in it."""
    return services.store.read(
        "votes",
        lambda session: answers.votes(session, seen(session, caller, here)),
    )


@router.put(
    "/opening",
    status_code=204,
    responses=refusals(NotFound, NotAMember, MessageRefused, InvalidSignature, AnswerDiffers, VotesMissing),
    openapi_extra=takes(Opening, ShareOpening, BodyOpening),
)
def answer(
    services: Serving,
    site: CallingSite,
    here: ThisAttempt,
    opening: Annotated[Signed[Answer], signed(Opening, ShareOpening, BodyOpening)],
) -> None:
    """A site's answer: the sum of secrets, of shares of them, or the opened parts by their digests."""

    def give(session: Session) -> None:
        row = here.row(session)
        answers.answer(session, row, site.id, opening, services.clock.now())

    services.store.run("answer", give)


@router.post(
    "/refusal",
    status_code=204,
    responses=_REFUSALS,
    openapi_extra=takes(Refusal),
)
def refuse(
    services: Serving,
    site: CallingSite,
    here: ThisAttempt,
    refusal: Annotated[Signed[Refusal], signed(Refusal)],
) -> None:
    """This site's no to the plan, the ballot or the opening, in words for all operators."""

    def note(session: Session) -> None:
        row = here.row(session)
        answers.refuse(session, row, site.id, refusal, services.clock.now())

    services.store.run("refuse", note)


@router.get("/openings", responses=refusals(NotFound, NotAMember))
def openings(services: Serving, caller: AnyCaller, here: ThisAttempt) -> list[dict[str, Any]]:
    """All signed answers to the ballot, by site: whoever wants to can open the sum again."""
    return services.store.read("openings", lambda session: answers.openings(session, seen(session, caller, here)))


@router.post("/share-refusal", status_code=204, responses=_REFUSALS, openapi_extra=takes(ShareRefusal))
def refuse_shares(
    services: Serving,
    site: CallingSite,
    here: ThisAttempt,
    refusal: Annotated[Signed[ShareRefusal], signed(ShareRefusal)],
) -> None:
    """Shares that contributors sealed to this site do not open: who sealed them, for all operators."""

    def note(session: Session) -> None:
        row = here.row(session)
        answers.refuse_shares(session, row, site.id, refusal, services.clock.now())

    services.store.run("refuse shares", note)
