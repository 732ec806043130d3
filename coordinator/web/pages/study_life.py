"""Studies changed, copied, rolled back and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from coordinator.api.public import Serving
from coordinator.api.wishes import CloneWish, RollbackWish, StudyChange
from coordinator.errors import CoordinatorError, RoleMissing
from coordinator.services import Services
from coordinator.store import changes, comparing, copies, glance, studies, tables
from coordinator.web.figures import auc_curve, measured
from coordinator.web.rendering import PageRoute, faults_of, go_to, render
from coordinator.web.visits import Acting, Form, Looking, Visit

router = APIRouter(route_class=PageRoute)
Way = Literal["change", "clone", "rollback"]
Work = Callable[[Session, tables.Study, float], tables.Study]
_MOST: Final = 6  # studies side by side


@router.get("/studies/compare")
def compare(
    request: Request,
    services: Serving,
    _: Looking,
    chosen: Annotated[list[UUID], Query(alias="study", default_factory=list, max_length=_MOST)],
) -> Response:
    """The studies to choose from and, once two are chosen, what tells them apart."""

    def look(session: Session) -> dict[str, Any]:
        rows = [studies.get(session, each) for each in dict.fromkeys(chosen)]
        found = comparing.compare(session, rows) if len(rows) > 1 else None
        curves = [auc_curve(measured(glance.attempts(session, row.id))) for row in rows] if found else []
        return {"everyone": studies.everyone(session), "chosen": chosen, "found": found, "curves": curves}

    return render(request, "compare.html", **services.store.read("compare", look))


@router.get("/studies/{study}/change")
def show_change(request: Request, services: Serving, visit: Looking, study: UUID) -> Response:
    """The form, with what the study has now."""
    row = _for_an_operator(services, visit, study)
    return _form(request, row, "change", {name: getattr(row, name) for name in StudyChange.model_fields}, [])


@router.get("/studies/{study}/clone")
def show_clone(request: Request, services: Serving, visit: Looking, study: UUID) -> Response:
    """The form: only what is to be otherwise is filled in."""
    return _form(request, _for_an_operator(services, visit, study), "clone", {}, [])


@router.get("/studies/{study}/rollback")
def show_rollback(request: Request, services: Serving, visit: Looking, study: UUID) -> Response:
    """The same, and to which round."""
    return _form(request, _for_an_operator(services, visit, study), "rollback", {}, [])


def _for_an_operator(services: Services, visit: Visit, study: UUID) -> tables.Study:
    if not visit.acts:
        raise RoleMissing("Studies are changed by operators; an auditor looks at them.")
    return services.store.read("study", lambda session: studies.get(session, study))


@router.post("/studies/{study}/change")
def change(request: Request, services: Serving, form: Acting, study: UUID) -> Response:
    """Other settings, from the next plan on."""

    def work(session: Session, row: tables.Study, now: float) -> tables.Study:
        changes.change(session, row, StudyChange.model_validate(form.given).change(), form.visit.actor, now)
        return row

    return _done(request, services, form, study, "change", work)


@router.post("/studies/{study}/clone")
def clone(request: Request, services: Serving, form: Acting, study: UUID) -> Response:
    """A draft that begins as the study began."""

    def work(session: Session, row: tables.Study, now: float) -> tables.Study:
        wish = CloneWish.model_validate(form.given)
        return copies.clone(session, row, wish.name, wish.change(), form.visit.actor, now)

    return _done(request, services, form, study, "clone", work)


@router.post("/studies/{study}/rollback")
def roll_back(request: Request, services: Serving, form: Acting, study: UUID) -> Response:
    """A draft that goes on from the model of an earlier round; the study itself ends."""

    def work(session: Session, row: tables.Study, now: float) -> tables.Study:
        wish = RollbackWish.model_validate(form.given)
        return copies.roll_back(session, row, wish.round, wish.name, wish.change(), form.visit.actor, now)

    return _done(request, services, form, study, "rollback", work)


def _done(request: Request, services: Services, form: Form, study: UUID, way: Way, work: Work) -> Response:
    """The study that came of it, or the form again with what is wrong."""
    now = services.clock.now()
    try:
        made = services.store.run(f"{way} study", lambda session: work(session, studies.get(session, study), now))
    except ValidationError as error:
        faults = faults_of(error)
    except CoordinatorError as error:
        faults = [error.detail]
    else:
        return go_to(f"/studies/{made.id}")
    row = services.store.read("study", lambda session: studies.get(session, study))
    return _form(request, row, way, form.given, faults, 422)


def _form(
    request: Request,
    row: tables.Study,
    way: Way,
    values: Mapping[str, Any],
    faults: Sequence[str],
    status: int = 200,
) -> Response:
    return render(request, "study_life.html", status, study=row, way=way, values=values, faults=faults)
