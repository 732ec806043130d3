"""Studies and who takes part in them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from coordinator import model_files
from coordinator.api.bodies import signed
from coordinator.api.openapi import refusals, takes
from coordinator.api.paging import LINKED, Paged
from coordinator.api.public import Serving
from coordinator.api.values import Round, Study, Text
from coordinator.api.wishes import CloneWish, RollbackWish, StudyChange, StudyWish
from coordinator.auth import AnyCaller, Caller, CallingOperator, CallingSite
from coordinator.errors import MessageRefused, NameTaken, NotAMember, NotFound, RequestInvalid, StudyState
from coordinator.services import Services
from coordinator.store import (
    beginnings,
    carrying,
    changes,
    comparing,
    copies,
    history,
    joining,
    lists,
    memberships,
    studies,
    tables,
)
from coordinator.store.waiting import waiting
from crypto.epoch import Approval
from crypto.errors import InvalidSignature
from crypto.manifest import StudyRefusal
from crypto.wire import Signed

router = APIRouter(prefix="/v1/studies", tags=["studies"])


def _view(session: Session, study: tables.Study, caller: Caller) -> Study:
    member = caller.site is not None and memberships.is_member(session, study.id, caller.site.id)
    return Study.of(study, member=member)


def _for_reading(session: Session, study: UUID, caller: Caller) -> tables.Study:
    """For operators and members, as pooled metrics are the members' own.

    Raises:
        NotFound: there is none.
        NotAMember: a site asks that is none.
    """
    row = studies.get(session, study)
    if caller.site is not None:
        memberships.check_member(session, row.id, caller.site.id)
    return row


@router.get("", responses=LINKED | refusals(RequestInvalid))
def list_studies(
    services: Serving,
    caller: AnyCaller,
    page: Paged,
    after: Annotated[UUID | None, Query(description="the last page's last `id`")] = None,
    state: tables.StudyState | None = None,
    name: Annotated[Text | None, Query(description="part of it")] = None,
) -> list[Study]:
    """All studies, oldest first."""

    def look(session: Session) -> list[Study]:
        return [_view(session, row, caller) for row in lists.studies(session, page.rows, after, state, name)]

    return list(page.cut(services.store.read("studies", look), lambda study: study.id))


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


@router.get("/compare", responses=refusals(NotFound, NotAMember))
def compare_studies(
    services: Serving, caller: AnyCaller, study: Annotated[list[UUID], Query(min_length=2, max_length=6)]
) -> comparing.Comparison:
    """Studies side by side: the settings that differ, and the figures of their completed rounds."""
    return services.store.read(
        "compare",
        lambda session: comparing.compare(session, [_for_reading(session, each, caller) for each in study]),
    )


@router.get("/{study}", responses=refusals(NotFound))
def show_study(services: Serving, caller: AnyCaller, study: UUID) -> Study:
    """One study; to operators also what it waits for."""
    now, recent = services.clock.now(), services.settings.recent_seen_seconds

    def look(session: Session) -> Study:
        row = studies.get(session, study)
        if caller.site is not None:
            return _view(session, row, caller)
        return Study.of(row, member=False, waiting=waiting(session, row.id, now, recent))

    return services.store.read("study", look)


@router.patch("/{study}", responses=refusals(NotFound, RequestInvalid, StudyState))
def change_study(services: Serving, operator: CallingOperator, study: UUID, wanted: StudyChange) -> Study:
    """Other settings from the next plan on. What sites joined the study for stays: its scheme, recipe, layout, ..."""

    def change(session: Session) -> Study:
        row = studies.get(session, study)
        changes.change(session, row, wanted.change(), f"operator:{operator.name}", services.clock.now())
        return Study.of(row, member=False)

    return services.store.run("change study", change)


@router.post("/{study}/clone", status_code=201, responses=refusals(NameTaken, NotFound, RequestInvalid))
def clone(services: Serving, operator: CallingOperator, study: UUID, wish: CloneWish) -> Study:
    """A draft with the same first model and settings, apart from those that are given."""

    def clone(session: Session) -> Study:
        row, now = studies.get(session, study), services.clock.now()
        made = copies.clone(session, row, wish.name, wish.change(), f"operator:{operator.name}", now)
        return Study.of(made, member=False)

    return services.store.run("clone study", clone)


@router.post("/{study}/rollback", status_code=201, responses=refusals(NameTaken, NotFound, RequestInvalid, StudyState))
def roll_back(services: Serving, operator: CallingOperator, study: UUID, wish: RollbackWish) -> Study:
    """A draft that goes on from the model of an earlier round, in the place of this study, which is stopped."""

    def roll_back(session: Session) -> Study:
        row, now, actor = studies.get(session, study), services.clock.now(), f"operator:{operator.name}"
        made = copies.roll_back(session, row, wish.round, wish.name, wish.change(), actor, now)
        return Study.of(made, member=False)

    return services.store.run("roll back study", roll_back)


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
    services.store.run("join", lambda session: joining.join(session, studies.get(session, study), site.id, now))


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
        joining.leave(session, studies.get(session, study), site.id, now, withdraw=withdraw)

    services.store.run("leave", leave)


@router.post(
    "/{study}/refusal",
    status_code=204,
    responses=refusals(NotFound, MessageRefused, InvalidSignature),
    openapi_extra=takes(StudyRefusal),
)
def refuse(
    services: Serving, site: CallingSite, study: UUID, refusal: Annotated[Signed[StudyRefusal], signed(StudyRefusal)]
) -> None:
    """This site's policy is against the study: it does not join, or follows it no more. For all operators."""
    now = services.clock.now()
    services.store.run(
        "refuse study", lambda session: joining.refuse(session, studies.get(session, study), site, refusal, now)
    )


@router.get(
    "/{study}/roster",
    responses={204: {"description": "It is the known one"}, **refusals(NotFound)},
    response_model=None,
)
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
        joining.approve(session, study, site, statement, services.clock.now())

    services.store.run("approve", approve)


@router.get("/{study}/rounds", responses=LINKED | refusals(NotAMember))
def rounds(
    services: Serving,
    caller: AnyCaller,
    study: UUID,
    page: Paged,
    after: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,9}\.[0-9]{1,9}$", description="the last page's last `round`.`attempt`")
    ] = None,
    state: tables.RoundState | None = None,
) -> list[Round]:
    """How the rounds went so far, oldest first; for operators and members."""

    def look(session: Session) -> list[Round]:
        rows = lists.rounds(session, _for_reading(session, study, caller).id, page.rows, after, state)
        return [Round.model_validate(history.entry(session, row)) for row in rows]

    return list(page.cut(services.store.read("rounds", look), lambda row: f"{row.round}.{row.attempt}"))
