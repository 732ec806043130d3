"""Models: uploaded once by an operator, downloaded by many, in pieces if a line breaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from coordinator import model_files
from coordinator.api.bodies import BodyFile
from coordinator.api.openapi import refusals, takes_octets
from coordinator.api.public import Serving
from coordinator.api.values import Model
from coordinator.auth import AnyCaller, Caller, CallingOperator
from coordinator.errors import ModelRefused, NotAMember, NotFound, RangeUnsatisfiable, TooLarge
from coordinator.store import models, studies, tables
from coordinator.store.blobs import model_key

router = APIRouter(prefix="/v1/models", tags=["models"])
MEDIA_TYPE: Final = "application/octet-stream"
_ONE_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@router.post("", status_code=201, responses=refusals(ModelRefused, TooLarge), openapi_extra=takes_octets())
def upload(services: Serving, operator: CallingOperator, file: BodyFile) -> Model:
    """A study's first model, as `pleura-participant model new` writes it. It is read as numbers, never executed."""
    row = model_files.take(services.store, services.blobs, file, f"operator:{operator.name}", services.clock.now())
    return Model(model=row.digest, layout_digest=row.layout_digest, recipe_digest=row.recipe_digest)


@router.get(
    "/{digest}",
    response_class=Response,
    responses={
        200: {"content": {MEDIA_TYPE: {}}},
        206: {"content": {MEDIA_TYPE: {}}, "description": "The range asked for"},
        304: {"description": "The copy at hand is this model"},
        **refusals(NotFound, NotAMember, RangeUnsatisfiable),
    },
)
def download(
    services: Serving, caller: AnyCaller, request: Request, digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
) -> Response:
    """The safetensors file, named by its SHA-256, so a copy never grows stale; 404 where only members hold it."""
    model = services.store.read("find model", lambda session: _find(session, caller, digest))
    tag = f'"{digest}"'
    headers = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "private, max-age=31536000, immutable"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    asked = _range(request.headers, tag, model.size)
    start, end = asked or (0, model.size)
    headers["Content-Length"] = str(end - start)
    if asked is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{model.size}"
    pieces = services.blobs.stream(model_key(digest), start, end)
    return StreamingResponse(pieces, 206 if asked else 200, headers, MEDIA_TYPE)


def _find(session: Session, caller: Caller, digest: str) -> tables.Model:
    model = models.readable(session, digest)
    if caller.site is not None and not studies.may_download(session, model, caller.site.id):
        raise NotAMember("This model belongs to a study that this site is no member of. Join the study first.")
    return model


def _range(headers: Mapping[str, str], tag: str, size: int) -> tuple[int, int] | None:
    """The bytes [start, end) that one Range header asks for; None: the whole file. Several ranges get the whole too."""
    found = _ONE_RANGE.fullmatch(headers.get("range", ""))
    if found is None or found.groups() == ("", "") or headers.get("if-range", tag) != tag:
        return None
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
    else:
        start, end = max(0, size - int(last)), size
    if start >= end:
        raise RangeUnsatisfiable(f"The file has {size} bytes; that range is outside.", {"size": size})
    return start, end
