"""The form that takes a scan, and the models to look at it with."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import FormData, UploadFile

from participant.diagnosis.case import Case, Steps, examine
from participant.diagnosis.limits import MIB, suffix_of
from participant.diagnosis.models import ModelFile, grades, recipe_of
from participant.policy import Refused
from participant.web.pages.login import address_of
from participant.web.rendering import PageRoute, go_to, page_of, render, visitor
from participant.web.settings import Page

router = APIRouter(route_class=PageRoute, dependencies=[Depends(visitor)])

_MODELS = 2  # at a time, side by side


@router.get("/diagnose")
def form(request: Request) -> HTMLResponse:
    page = page_of(request)
    files, grading = _sorted(page.files())
    return render(request, "diagnose.html", files=files, grading=grading, limit=page.limits.upload // MIB)


@router.post("/diagnose")
async def diagnose(request: Request) -> Response:
    page = page_of(request)
    if page.public:
        page.scans.take(address_of(request))
    async with request.form(max_files=page.limits.files, max_fields=20) as given:
        work = await run_in_threadpool(_taken, page, given)
    return go_to(f"/cases/{page.jobs.submit(work).key}")


class _Work:
    """A case with its files, which are gone once it was looked at, or is not to be."""

    def __init__(self, page: Page, models: Sequence[ModelFile], grading: ModelFile | None) -> None:
        self._page, self._models, self._grading = page, models, grading
        self._folder = tempfile.TemporaryDirectory(prefix="pleura-upload-")
        self._scans: list[Path] = []
        self._contours: list[Path] = []

    def keep(self, scans: Sequence[UploadFile], contours: Sequence[UploadFile]) -> None:
        self._scans = [self._written("scan", number, each) for number, each in enumerate(scans)]
        self._contours = [self._written("contours", number, each) for number, each in enumerate(contours)]

    def discard(self) -> None:
        self._folder.cleanup()

    def __call__(self, steps: Steps) -> Case:
        page = self._page
        with self._folder:
            steps("Preparing the models", 0, 1)
            models = [page.model(file) for file in self._models]
            grading = page.model(self._grading) if self._grading else None
            return examine(self._scans, self._contours, models, grading=grading, limits=page.limits, steps=steps)

    def _written(self, name: str, number: int, file: UploadFile) -> Path:
        path = Path(self._folder.name) / f"{name}-{number:05}{suffix_of(file.filename or '')}"
        with path.open("wb") as target:
            shutil.copyfileobj(file.file, target)
        return path


def _taken(page: Page, given: FormData) -> _Work:
    """What was sent, in a folder of its own.

    Raises:
        Refused: it names no scan, or no model that is here.
    """
    files, grading = _sorted(page.files())
    known = {file.digest: file for file in files}
    chosen = list(dict.fromkeys(known[each] for each in given.getlist("model") if each in known))
    if not 1 <= len(chosen) <= _MODELS:
        raise Refused("no-model", f"choose one model, or {_MODELS} to compare")
    scans, contours = _sent(given, "scan"), _sent(given, "contours")
    if not scans:
        raise Refused("no-scan", "no scan was given: choose or drop a file")
    work = _Work(page, chosen, grading)
    try:
        work.keep(scans, contours)
    except OSError as error:
        work.discard()
        raise Refused("no-room", f"the scan could not be kept for a moment: {error.strerror}") from error
    return work


def _sent(given: FormData, name: str) -> list[UploadFile]:
    """The files of one field; browsers send an empty one where none was chosen."""
    return [each for each in given.getlist(name) if isinstance(each, UploadFile) and each.filename]


def _sorted(files: Sequence[ModelFile]) -> tuple[list[ModelFile], ModelFile | None]:
    """Those that tell classes, and the first that grades COVID-19; what cannot be read is neither."""
    telling, grading = [], None
    for file in files:
        recipe = recipe_of(file.path)
        if recipe is None:
            continue
        if not grades(recipe):
            telling.append(file)
        elif grading is None:
            grading = file
    return telling, grading
