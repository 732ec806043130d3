"""Models: uploaded once by an operator, listed, downloaded by many, in pieces if a line breaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from coordinator import model_files
from coordinator.api.bodies import OCTETS, BodyFile, digest_field
from coordinator.api.openapi import gives_octets, refusals, takes_octets
from coordinator.api.paging import LINKED, Paged
from coordinator.api.public import Serving
from coordinator.api.values import Model
from coordinator.auth import AnyCaller, Caller, CallingAuditor, CallingOperator
from coordinator.errors import ModelRefused, NotAMember, NotFound, RangeUnsatisfiable, RequestInvalid
from coordinator.services import Services
from coordinator.store import lists, models, tables
from coordinator.store.blobs import model_key

router = APIRouter(prefix="/v1/models", tags=["models"])
Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
_ONE_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_HEADERS: Final[dict[str, Any]] = {
    "ETag": {"description": "the SHA-256, in quotes", "schema": {"type": "string"}},
    "Repr-Digest": {"description": "the whole file's SHA-256 (RFC 9530)", "schema": {"type": "string"}},
}
_UNCHANGED: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "The copy at hand is this model"}}


class ListedModel(BaseModel):
    """`study`, `round` and `parent`, the model it started from, are null for one that was uploaded."""

    model_config = ConfigDict(from_attributes=True)

    model: str = Field(validation_alias="digest")
    size: int
    layout_digest: str
    recipe_digest: str
    created: float
    study: UUID | None = Field(validation_alias="study_id")
    round: int | None
    parent: str | None


@router.post("", status_code=201, responses=refusals(ModelRefused), openapi_extra=takes_octets())
def upload(services: Serving, operator: CallingOperator, file: BodyFile) -> Model:
    """A study's first model, as `pleura-participant model new` writes it. It is read as numbers, never executed."""
    row = model_files.take(services.store, services.blobs, file, f"operator:{operator.name}", services.clock.now())
    return Model(model=row.digest, layout_digest=row.layout_digest, recipe_digest=row.recipe_digest)


@router.get("", responses=LINKED | refusals(RequestInvalid))
def list_models(
    services: Serving,
    _: CallingAuditor,
    page: Paged,
    after: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="the last page's last `model`")] = None,
    study: Annotated[UUID | None, Query(description="what its rounds made, and what it began with")] = None,
) -> list[ListedModel]:
    """All models, oldest first."""
    rows = services.store.read("models", lambda session: lists.models(session, page.rows, after, study))
    return [ListedModel.model_validate(row) for row in page.cut(rows, lambda row: row.digest)]


@router.get(
    "/{digest}",
    response_class=Response,
    responses={
        **gives_octets("The file, with its SHA-256 in Content-Digest too", _HEADERS),
        206: gives_octets("The range asked for", _HEADERS)[200],
        **_UNCHANGED,
        **refusals(NotFound, NotAMember, RangeUnsatisfiable),
    },
)
def download(services: Serving, caller: AnyCaller, request: Request, digest: Sha256) -> Response:
    """The safetensors file, named by its SHA-256, so a copy never grows stale; 404 where only members hold it.

    `Range` gets one range of it; several ranges get the whole.
    """
    model = services.store.read("find model", lambda session: _find(session, caller, digest))
    headers = _headers(services, model)
    if _unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    asked = _range(request.headers, headers["ETag"], model.size)
    start, end = asked or (0, model.size)
    headers["Content-Length"] = str(end - start)
    if asked is None:
        headers["Content-Digest"] = headers["Repr-Digest"]
    else:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{model.size}"
    pieces = services.blobs.stream(model_key(digest), start, end)
    return StreamingResponse(pieces, 206 if asked else 200, headers, OCTETS)


@router.head(
    "/{digest}",
    response_class=Response,
    responses={200: {"description": "As GET, without the file", "headers": _HEADERS}, **_UNCHANGED}
    | refusals(NotFound, NotAMember),
)
def examine(services: Serving, caller: AnyCaller, request: Request, digest: Sha256) -> Response:
    """How large a model is, and whether it is here, without its file."""
    model = services.store.read("find model", lambda session: _find(session, caller, digest))
    headers = _headers(services, model)
    if _unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(headers=headers | {"Content-Length": str(model.size)}, media_type=OCTETS)


def _find(session: Session, caller: Caller, digest: str) -> tables.Model:
    model = models.readable(session, digest)
    if caller.site is not None and not models.may_download(session, model, caller.site.id):
        raise NotAMember("This model belongs to a study that this site is no member of. Join the study first.")
    return model


def _headers(services: Services, model: tables.Model) -> dict[str, str]:
    """Those of every answer about a model whose file is here, looked for before anything is answered.

    Raises:
        NotFound: the row is here, and the blob store lacks the file.
    """
    if not services.blobs.exists(model_key(model.digest)):
        raise model_files.missing(model.digest)
    return {
        "ETag": f'"{model.digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Repr-Digest": digest_field(model.digest),
    }


def _unchanged(request: Request, tag: str) -> bool:
    return tag in request.headers.get("if-none-match", "")


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
