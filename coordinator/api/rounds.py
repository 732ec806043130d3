"""An attempt as sites see it: the task, the plan, the roster, the ballot."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import anyio
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from coordinator.api.openapi import refusals
from coordinator.api.places import Here, ThisAttempt
from coordinator.api.public import Serving
from coordinator.api.values import Task
from coordinator.auth import AnyCaller, Caller, CallingSite
from coordinator.errors import NotAMember, NotFound
from coordinator.services import Services
from coordinator.store import answers, contributions, memberships, tasks
from coordinator.store.tables import Round
from coordinator.watching import waited

router = APIRouter(prefix="/v1/studies/{study}", tags=["rounds"])
_ATTEMPT = "/rounds/{round}/{attempt}"
_LONGEST_WAIT = 25.0  # seconds; proxies commonly give up after 30 or more


@router.get("/task", responses=refusals(NotFound, NotAMember))
async def task(
    request: Request,
    services: Serving,
    site: CallingSite,
    study: UUID,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    wait: Annotated[float, Query(ge=0, le=_LONGEST_WAIT, description="seconds")] = 0.0,
    known: Annotated[str | None, Query(max_length=64, description="a roster's digest")] = None,
) -> Task:
    """What this site has to do now. With the last answer's cursor it waits for another answer than that one.

    The plan's roster is left out if it is the known one.
    """
    survey = await _news(request, services, study, site.id, cursor, anyio.current_time() + wait)
    while (found := await run_in_threadpool(_task, services, study, survey, site.id)) is None:
        survey = await services.surveys.since(study, anyio.current_time())  # the study's key has changed meanwhile
    same = found["plan"] is not None and found["plan"]["roster"] == known
    return Task.model_validate(found | {"roster": None} if same else found)


async def _news(
    request: Request, services: Services, study: UUID, site: UUID, cursor: str | None, until: float
) -> tasks.Survey:
    """How the study stands once that has another cursor for the site, or at `until` (the event loop's time).

    Raises:
        NotAMember: the site does not take part.
    """
    pause, waits = services.settings.poll_seconds, until > anyio.current_time()
    survey = await services.surveys.since(study, anyio.current_time() - (pause if waits else 0))
    if site not in survey.members:
        await run_in_threadpool(_check_member, services, study, site)
        survey = await services.surveys.since(study, anyio.current_time())  # it has just joined
    if survey.cursor(site) != cursor:
        return survey
    with services.surveys.waiting(study) as spread:
        while survey.cursor(site) == cursor:
            left = until - anyio.current_time()
            if left <= 0 or services.stopping.is_set() or await request.is_disconnected():
                return survey
            await _wait(request, min(pause, left))
            survey = await services.surveys.since(study, anyio.current_time() - pause)
        await _wait(request, min(spread(), until - anyio.current_time()))
    return await services.surveys.since(study, anyio.current_time() - pause)


async def _wait(request: Request, seconds: float) -> None:
    await anyio.sleep(max(0.0, seconds))
    waited(request, max(0.0, seconds))


def _task(services: Services, study: UUID, survey: tasks.Survey, site: UUID) -> dict[str, Any] | None:
    return services.store.read("task", lambda session: tasks.task(session, study, survey, site))


def _check_member(services: Services, study: UUID, site: UUID) -> None:
    services.store.read("member", lambda session: memberships.check_member(session, study, site))


def seen(session: Session, caller: Caller, here: Here) -> Round:
    """The attempt, if the caller is on its roster or an operator."""
    row = here.row(session)
    if caller.site is not None:
        contributions.check_on_roster(row, caller.site.id)
    return row


@router.get(_ATTEMPT + "/plan", responses=refusals(NotFound, NotAMember))
def plan(services: Serving, caller: AnyCaller, here: ThisAttempt) -> dict[str, Any]:
    """The Plan."""
    return services.store.read("plan", lambda session: seen(session, caller, here).plan)


@router.get(_ATTEMPT + "/roster", responses=refusals(NotFound, NotAMember))
def roster(services: Serving, caller: AnyCaller, here: ThisAttempt) -> dict[str, Any]:
    """The Roster that the plan was made for."""
    return services.store.read("roster", lambda session: seen(session, caller, here).roster)


@router.get(_ATTEMPT + "/ballot", responses=refusals(NotFound, NotAMember))
def ballot(services: Serving, caller: AnyCaller, here: ThisAttempt) -> dict[str, Any]:
    """The Ballot, once the set of contributors is frozen and their parts are added up."""

    def look(session: Session) -> dict[str, Any]:
        return answers.ballot_json(seen(session, caller, here))

    return services.store.read("ballot", look)
