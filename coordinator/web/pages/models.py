"""Models: which there are, how good each was found to be, and their files."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy.orm import Session

from coordinator import model_files
from coordinator.api.models import download as serve
from coordinator.api.public import Serving
from coordinator.auth import Caller
from coordinator.errors import NotFound
from coordinator.services import Services
from coordinator.store import glance, models, tables
from coordinator.web.figures import performance
from coordinator.web.rendering import PageRoute, render
from coordinator.web.visits import Looking
from crypto.layout import Layout

router = APIRouter(route_class=PageRoute)
_ROWS: Final = 50
_Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


@router.get("/models")
def show(request: Request, services: Serving, _: Looking, before: Annotated[float | None, Query()] = None) -> Response:
    """The newest ones, or those made before that time."""

    def look(session: Session) -> tuple[list[dict[str, Any]], bool]:
        found = glance.models(session, before, _ROWS + 1)
        measures = glance.measures_of_models(session, [model.digest for model, _ in found])
        rows = [
            {
                "row": model,
                "study": study,
                "here": not models.held_by_members(session, model),
                "measures": measures.get(model.digest),
            }
            for model, study in found[:_ROWS]
        ]
        return rows, len(found) > _ROWS

    rows, more = services.store.read("models", look)
    return render(request, "models.html", models=rows, more=more)


@router.get("/models/{digest}")
def card(request: Request, services: Serving, _: Looking, digest: _Digest) -> Response:
    """What a model is, where it came from, and what it was measured to do."""
    content = services.store.read("model card", lambda session: _card(services, session, digest))
    return render(request, "model.html", **content)


def _card(services: Services, session: Session, digest: str) -> dict[str, Any]:
    model = models.find(session, digest)
    if model is None:
        raise NotFound(f"There is no model {digest[:12]}... here.")
    study = session.get(tables.Study, model.study_id) if model.study_id else None
    layout, recipe = _described(services, session, model, study)
    return {
        "model": model,
        "study": study,
        "begun": glance.begun_with(session, digest),
        "here": not models.held_by_members(session, model),
        "layout": layout,
        "recipe": recipe,
        "made": glance.made(session, model),
        "names": glance.site_names(session),
        **_measured(session, digest),
    }


def _measured(session: Session, digest: str) -> dict[str, Any]:
    """The figures of the round that started from the model, once there is one."""
    attempt = glance.measured(session, digest)
    if attempt is None:
        return {"measured_in": None, "performance": None}
    study = session.get_one(tables.Study, attempt.study)
    return {"measured_in": study, "performance": performance(session, study, [attempt])}


def _described(
    services: Services, session: Session, model: tables.Model, study: tables.Study | None
) -> tuple[Layout, dict[str, Any]]:
    if study is not None:
        return Layout.from_json(study.layout), study.recipe
    described = model_files.stored(services.blobs, model.digest)
    return described.layout, described.recipe


@router.get("/models/{digest}/file")
def download(request: Request, services: Serving, visit: Looking, digest: _Digest) -> Response:
    """The safetensors file."""
    response = serve(services, Caller(None, visit.operator), request, digest)
    response.headers["Content-Disposition"] = f'attachment; filename="{digest[:12]}.safetensors"'
    return response
