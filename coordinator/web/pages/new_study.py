"""The form for a new study, and the upload of the model that it begins with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.orm import Session

from coordinator import model_files
from coordinator.api.bodies import BodyFile
from coordinator.api.public import Serving
from coordinator.api.wishes import StudyWish
from coordinator.errors import CoordinatorError, RoleMissing
from coordinator.services import Services
from coordinator.store import glance, models, studies, tables
from coordinator.store.beginnings import Beginning
from coordinator.web.rendering import PageRoute, faults_of, go_to, render
from coordinator.web.visits import Acting, Looking, Uploading, Visit
from crypto.schemes import SCHEMES

router = APIRouter(route_class=PageRoute)
uploads = APIRouter()  # answers a script, with problem documents
_MODELS_OFFERED: Final = 50
_Digest = Annotated[str, Query(pattern="^([0-9a-f]{64})?$")]


@router.get("/studies/new")
def show(request: Request, services: Serving, visit: Looking, model: _Digest = "") -> Response:
    """The form, with the model that was just uploaded chosen."""
    if not visit.acts:
        raise RoleMissing("Studies are created by operators; an auditor looks at them.")
    return _form(request, services, {"model": model}, [])


@router.post("/studies")
def create(request: Request, services: Serving, form: Acting) -> Response:
    """Create it, or show the form again with what is wrong."""
    try:
        wish = StudyWish.model_validate(form.given)
        study = _create(services, form.visit, wish)
    except ValidationError as error:
        return _form(request, services, form.given, faults_of(error), 422)
    except CoordinatorError as error:
        return _form(request, services, form.given, [error.detail], 422)
    return go_to(f"/studies/{study.id}")


def _create(services: Services, visit: Visit, wish: StudyWish) -> tables.Study:
    row = services.store.read("find model", lambda session: models.readable(session, wish.model or ""))
    file, now = model_files.stored(services.blobs, row.digest), services.clock.now()
    wishes = wish.wishes(Beginning(row.digest, row.study_id, row.round))
    return services.store.run(
        "create study", lambda session: studies.create(session, wishes, file.layout, file.recipe, visit.actor, now)
    )


def _form(
    request: Request, services: Services, values: Mapping[str, str], faults: list[str], status: int = 200
) -> Response:
    return render(
        request,
        "new_study.html",
        status,
        values=values,
        faults=faults,
        schemes=SCHEMES,
        models=services.store.read("models", lambda session: _offered(services, session)),
    )


def _offered(services: Services, session: Session) -> list[dict[str, Any]]:
    """Models whose files are here, newest first, with the recipe that each file carries."""
    found = []
    for model, study in glance.models(session, None, _MODELS_OFFERED):
        if not models.held_by_members(session, model):
            recipe = study.recipe if study else model_files.stored(services.blobs, model.digest).recipe
            found.append({"row": model, "study": study, "recipe": recipe.get("name", "no name")})
    return found


@uploads.post("/models", status_code=201)
def upload(services: Serving, visit: Uploading, file: BodyFile) -> JSONResponse:
    """A study's first model, sent by the form's script as it lies on the disk; never read into memory whole."""
    row = model_files.take(services.store, services.blobs, file, visit.actor, services.clock.now())
    return JSONResponse({"model": row.digest}, 201)
