"""Studies and who takes part in them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from coordinator import model_files
from coordinator.api.bodies import signed
from coordinator.api.openapi import refusals, takes
from coordinator.api.public import Serving
from coordinator.api.values import Round, Study, StudyWish
from coordinator.auth import AnyCaller, Caller, CallingOperator, CallingSite
from coordinator.errors import MessageRefused, NameTaken, NotAMember, NotFound, RequestInvalid, StudyState
from coordinator.services import Services
from coordinator.store import beginnings, carrying, history, memberships, studies, tables
from crypto.epoch import Approval
from crypto.errors import InvalidSignature
from crypto.wire import Signed

router = APIRouter(prefix="/v1/studies", tags=["studies"])


def _view(session: Session, study: tables.Study, caller: Caller) -> Study:
    member = caller.site is not None and memberships.is_member(session, study.id, caller.site.id)
    return Study.of(study, member=member)


@router.get("")
def list_studies(services: Serving, caller: AnyCaller) -> list[Study]:
    """All studies, oldest first."""
    return services.store.read(
        "studies", lambda session: [_view(session, study, caller) for study in studies.everyone(session)]
    )


@router.post("", status_code=201, responses=refusals(NameTaken, NotFound, RequestInvalid))
def create_study(services: Serving, operator: CallingOperator, wish: StudyWish) -> Study:
    """A study in state draft, from an uploaded model or another study's. What is not said is as its recipe says."""

    def find(session: Session) -> beginnings.Beginning:
        if wish.from_study is None:
            return beginnings.uploaded(session, wish.model or "")
        return beginnings.of_round(session, studies.get(session, wish.from_study), wish.from_round)

    found = services.store.read("find model", find)
    file, wishes, now = model_files.stored(services.blobs, found.model), wish.wishes(found), services.clock.now()
    actor = f"operator:{operator.name}"
    row = services.store.run(
        "create study", lambda session: studies.create(session, wishes, file.layout, file.recipe, actor, now)
    )
    return Study.of(row, member=False)


@router.get("/{study}", responses=refusals(NotFound))
def show_study(services: Serving, caller: AnyCaller, study: UUID) -> Study:
    """One study."""
    return services.store.read("study", lambda session: _view(session, studies.get(session, study), caller))


def _move(services: Services, operator: CallingOperator, study: UUID, action: studies.Action) -> Study:
    def move(session: Session) -> Study:
        row = studies.get(session, study)
        studies.move(session, row, action, f"operator:{operator.name}", services.clock.now())
        return Study.of(row, member=False)

    return services.store.run(f"{action} study", move)


@router.post("/{study}/start", responses=refusals(StudyState))
def start(services: Serving, operator: CallingOperator, study: UUID) -> Study:
    """Rounds begin as soon as enough sites are there."""
    return _move(services, operator, study, "start")


@router.post("/{study}/pause", responses=refusals(StudyState))
def pause(services: Serving, operator: CallingOperator, study: UUID) -> Study:
    """No new round begins; the one that is running ends."""
    return _move(services, operator, study, "pause")


@router.post("/{study}/resume", responses=refusals(StudyState))
def resume(services: Serving, operator: CallingOperator, study: UUID) -> Study:
    """Rounds go on after a pause."""
    return _move(services, operator, study, "resume")


@router.post("/{study}/stop", responses=refusals(StudyState))
def stop(services: Serving, operator: CallingOperator, study: UUID) -> Study:
    """For good: the running attempt fails, the last model stays."""
    return _move(services, operator, study, "stop")


@router.put("/{study}/membership", status_code=204, responses=refusals(StudyState))
def join(services: Serving, site: CallingSite, study: UUID) -> None:
    """Take part from the next plan on."""
    now = services.clock.now()
    services.store.run("join", lambda session: studies.join(session, studies.get(session, study), site.id, now))


@router.delete("/{study}/membership", status_code=204)
def leave(
    services: Serving,
    site: CallingSite,
    study: UUID,
    withdraw: Annotated[bool, Query(description="also from later sums, where the study carries leavers on")] = False,
) -> None:
    """Take part no longer. The study needs a new key then, as the leaver keeps the old one."""
    now = services.clock.now()

    def leave(session: Session) -> None:
        studies.leave(session, studies.get(session, study), site.id, now, withdraw=withdraw)

    services.store.run("leave", leave)


@router.get("/{study}/roster", responses=refusals(NotFound), response_model=None)
def candidates(
    services: Serving, caller: AnyCaller, study: UUID, known: Annotated[str | None, Query(max_length=64)] = None
) -> Response:
    """A Roster of all active members: the candidates for the next plan. 204 if it is the one of the known digest."""
    roster = services.store.read("roster", lambda session: memberships.roster(session, study))
    if roster.digest == known:
        return Response(status_code=204)
    return Response(roster.encode(), media_type="application/json")


@router.get("/{study}/former-members", responses=refusals(NotFound, NotAMember))
def former_members(services: Serving, site: CallingSite, study: UUID) -> list[dict[str, Any]]:
    """Members that left and still count, as rosters listed them: who comes later has to approve them too."""

    def look(session: Session) -> list[dict[str, Any]]:
        memberships.check_member(session, study, site.id)
        return [member.to_json() for member in carrying.former_members(session, studies.get(session, study))]

    return services.store.read("former members", look)


@router.put(
    "/{study}/approval",
    status_code=204,
    responses=refusals(MessageRefused, InvalidSignature),
    openapi_extra=takes(Approval),
)
def approve(
    services: Serving, site: CallingSite, study: UUID, statement: Annotated[Signed[Approval], signed(Approval)]
) -> None:
    """Which peers this site approved; replaces what it said before."""

    def approve(session: Session) -> None:
        memberships.check_member(session, study, site.id)
        studies.approve(session, study, site, statement, services.clock.now())

    services.store.run("approve", approve)


@router.get("/{study}/rounds")
def rounds(services: Serving, caller: AnyCaller, study: UUID) -> list[Round]:
    """How the rounds went so far, oldest first; for members, as pooled metrics are the members' own."""

    def look(session: Session) -> list[Round]:
        row = studies.get(session, study)
        if caller.site is not None:
            memberships.check_member(session, row.id, caller.site.id)
        return [Round.model_validate(entry) for entry in history.rounds(session, row.id)]

    return services.store.read("rounds", look)
