"""A case: how far it is, and what came of it, slice by slice."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from pydicom.dataset import Dataset

from participant.diagnosis import dicom_out, pictures
from participant.diagnosis.case import Case
from participant.diagnosis.look import Opinion
from participant.diagnosis.pictures import PRESETS
from participant.policy import Refused
from participant.web.jobs import Job
from participant.web.rendering import PageRoute, go_to, page_of, render, visitor
from participant.web.views import case_view

router = APIRouter(prefix="/cases", route_class=PageRoute, dependencies=[Depends(visitor)])

Key = Annotated[str, Path(max_length=40)]
Number = Annotated[int, Path(ge=0, le=10_000)]


@router.get("/{key}")
def case(request: Request, key: Key) -> Response:
    job = _job(request, key)
    if (shown := job.case) is None:
        return render(request, "working.html", job=job, status=200 if job.state != "failed" else 422)
    return _shown(request, job, shown)


@router.get("/{key}/progress")
def progress(request: Request, key: Key) -> dict[str, Any]:
    job = _job(request, key)
    return {"state": job.state, "what": job.what, "done": job.done, "total": job.total}


@router.get("/{key}/slices/{number}.png")
def slice_(
    request: Request, key: Key, number: Number, preset: Annotated[str, Query(pattern="^[a-z]+$")] = "lung"
) -> Response:
    shown = _case(request, key)
    if preset not in PRESETS:
        raise Refused("gone", "there is no such window")
    return _picture(pictures.grey(shown.voxels[_within(shown, number)], preset))


@router.get("/{key}/heat/{model}/{label}/{number}.png")
def heat(request: Request, key: Key, model: Number, label: Number, number: Number) -> Response:
    shown = _case(request, key)
    opinion = _opinion(shown, model, label)
    size = shown.voxels.shape[1], shown.voxels.shape[2]
    return _picture(pictures.heat(opinion.maps[label, _within(shown, number)], size))


@router.get("/{key}/outline/{number}.png")
def outline(request: Request, key: Key, number: Number) -> Response:
    shown = _case(request, key)
    if shown.outlined is None:
        raise Refused("gone", "nothing was outlined in this case")
    return _picture(pictures.outline(shown.outlined[_within(shown, number)]))


class Wanted(BaseModel):
    """Which heat map, and how it looks. kind: pictures for any viewer, or a layer for viewers of segmentations."""

    model: Annotated[int, Field(ge=0)]
    label: Annotated[int, Field(ge=0)]
    kind: Literal["captures", "layer"]
    preset: Literal["lung", "mediastinum", "bone"] = "lung"
    opacity: Annotated[int, Field(ge=0, le=100)] = 60


@router.post("/{key}/dicom")
def save(request: Request, key: Key, wanted: Annotated[Wanted, Form()]) -> Response:
    """The heat map as files, to be stored wherever the hospital keeps such."""
    headers = {"Content-Disposition": 'attachment; filename="pleura-heat-map-research-use.zip"'}
    return Response(_zipped(_objects(_case(request, key), wanted)), media_type="application/zip", headers=headers)


@router.post("/{key}/pacs")
def send(request: Request, key: Key, wanted: Annotated[Wanted, Form()]) -> Response:
    """The heat map to the hospital's PACS."""
    shown, archive = _case(request, key), page_of(request).archive
    if archive is None:
        raise Refused("gone", "no PACS is named in config.toml: write its address under `pacs`")
    stored = archive.store(_objects(shown, wanted))
    return _shown(request, _job(request, key), shown, stored)


@router.post("/{key}/forget")
def forget(request: Request, key: Key) -> Response:
    page_of(request).jobs.forget(key)
    return go_to("/diagnose")


def _shown(request: Request, job: Job, shown: Case, stored: int | None = None) -> Response:
    """The case's page. stored: objects that the PACS has just taken."""
    view, presets = case_view(shown), list(PRESETS)
    return render(request, "case.html", job=job, case=shown, view=view, presets=presets, stored=stored)


def _objects(shown: Case, wanted: Wanted) -> Iterator[Dataset]:
    opinion = _opinion(shown, wanted.model, wanted.label)
    if wanted.kind == "layer":
        return iter((dicom_out.layer(shown, opinion, wanted.label),))
    return dicom_out.captures(shown, opinion, wanted.label, wanted.preset, wanted.opacity / 100)


def _zipped(objects: Iterator[Dataset]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, each in enumerate(objects, start=1):
            one = io.BytesIO()
            each.save_as(one, enforce_file_format=True)
            archive.writestr(f"heat-map-{number:04}.dcm", one.getvalue())
    return file.getvalue()


def _job(request: Request, key: str) -> Job:
    job = page_of(request).jobs.get(key)
    if job is None:
        raise Refused("gone", "this case is not here any more: results are kept in memory only. Give the scan again")
    return job


def _case(request: Request, key: str) -> Case:
    found = _job(request, key).case
    if found is None:
        raise Refused("gone", "this case was not looked at yet")
    return found


def _opinion(shown: Case, model: int, label: int) -> Opinion:
    if model >= len(shown.opinions) or label >= len(shown.opinions[model].model.classes):
        raise Refused("gone", "there is no such model or class")
    return shown.opinions[model]


def _within(shown: Case, number: int) -> int:
    """Pages count slices from the head, as they are read; volumes run from the feet."""
    if number >= shown.slices:
        raise Refused("gone", "there is no such slice")
    return shown.slices - 1 - number


def _picture(pixels: pictures.Grey) -> Response:
    return Response(pictures.png(pixels), media_type="image/png")
