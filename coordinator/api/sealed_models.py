"""Models that only members hold: a member asks for the current one, another seals it to it. This service reads none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from coordinator.api.bodies import OCTETS, BodyFile, signed
from coordinator.api.openapi import gives_octets, refusals, takes, takes_octets
from coordinator.api.public import Serving
from coordinator.auth import CallingSite
from coordinator.errors import (
    Conflict,
    DiskFull,
    MessageRefused,
    NotAMember,
    NotFound,
    PartSize,
    PartsMissing,
    TooLarge,
)
from coordinator.services import Services
from coordinator.store import memberships, sealed_models, studies
from coordinator.store.blobs import READ_BYTES, sealed_model_key
from crypto.envelope import OVERHEAD
from crypto.errors import InvalidSignature
from crypto.outcome import SealedModel
from crypto.wire import Signed

router = APIRouter(prefix="/v1/studies/{study}/models/{digest}", tags=["models"])
Sha256 = Annotated[str, InPath(pattern="^[0-9a-f]{64}$")]


@router.put("/request", status_code=204, responses=refusals(NotFound, NotAMember, Conflict))
def ask(services: Serving, site: CallingSite, study: UUID, digest: Sha256) -> None:
    """This member lacks the current model. The others see it in their task; one of them seals it to this one."""
    now = services.clock.now()
    services.store.run(
        "request model",
        lambda session: sealed_models.request(session, studies.get(session, study), digest, site.id, now),
    )


@router.delete("/request", status_code=204, responses=refusals(NotFound))
def withdraw(services: Serving, site: CallingSite, study: UUID, digest: Sha256) -> None:
    """This member has the model now. What was sealed to it is deleted."""

    def end(session: Session) -> list[str]:
        row = studies.get(session, study)
        sealed = sealed_models.listed(session, row, digest, site.id)
        sealed_models.withdraw(session, row, digest, site.id, services.clock.now())
        return [entry["message"]["holder"] for entry in sealed]

    for holder in services.store.run("withdraw request", end):
        services.blobs.delete(sealed_model_key(study, digest, site.id, UUID(holder)))


@router.put(
    "/envelopes/{recipient}",
    status_code=204,
    responses=refusals(NotFound, NotAMember, Conflict, PartSize, TooLarge, DiskFull),
    openapi_extra=takes_octets(),
)
def put_envelope(
    services: Serving, site: CallingSite, study: UUID, digest: Sha256, recipient: UUID, file: BodyFile
) -> None:
    """The model, sealed to a member that asked for it; the signed message comes after it."""

    def find(session: Session) -> int:
        row = studies.get(session, study)
        return sealed_models.check_may_seal(session, row, digest, recipient, site.id).size + OVERHEAD

    expected, size = services.store.read("find request", find), file.stat().st_size
    if size != expected:
        raise PartSize(
            f"That model in an envelope has {expected} bytes, this has {size}.",
            {"expected": expected, "received": size},
        )
    services.blobs.put_stream(sealed_model_key(study, digest, recipient, site.id), _chunks(file))


@router.put(
    "/envelopes",
    status_code=204,
    responses=refusals(NotFound, NotAMember, Conflict, PartsMissing, MessageRefused, InvalidSignature),
    openapi_extra=takes(SealedModel),
)
def announce(
    services: Serving,
    site: CallingSite,
    study: UUID,
    digest: Sha256,
    sealed: Annotated[Signed[SealedModel], signed(SealedModel)],
) -> None:
    """The signed word for an envelope that is here: now its recipient is shown it."""
    message = sealed.message
    if message.model != digest:
        raise MessageRefused("The message names another model than its address.")
    if _found(services, sealed_model_key(study, digest, message.recipient, site.id)) != message.sha256:
        raise PartsMissing("The envelope that the message names by its SHA-256 is not here. Send it first.")
    now = services.clock.now()
    services.store.run(
        "announce sealed model",
        lambda session: sealed_models.note(session, studies.get(session, study), site, sealed, now),
    )


@router.get("/envelopes", responses=refusals(NotFound, NotAMember))
def offers(services: Serving, site: CallingSite, study: UUID, digest: Sha256) -> list[dict[str, Any]]:
    """The Signed[SealedModel] of all envelopes for this member."""

    def look(session: Session) -> list[dict[str, Any]]:
        row = studies.get(session, study)
        memberships.check_member(session, row.id, site.id)
        return sealed_models.listed(session, row, digest, site.id)

    return services.store.read("sealed models", look)


@router.get(
    "/envelopes/{holder}",
    response_class=StreamingResponse,
    responses=gives_octets("The envelope") | refusals(NotFound, NotAMember),
)
def fetch(services: Serving, site: CallingSite, study: UUID, digest: Sha256, holder: UUID) -> StreamingResponse:
    """The envelope that a member made for this one."""
    key, gone = sealed_model_key(study, digest, site.id, holder), "That member sealed no such model to this one."
    if str(holder) not in {entry["message"]["holder"] for entry in offers(services, site, study, digest)}:
        raise NotFound(gone)
    try:
        headers = {"Content-Length": str(services.blobs.size(key))}
    except FileNotFoundError:
        raise NotFound(f"{gone} It may have been deleted.") from None
    return StreamingResponse(services.blobs.stream(key), 200, headers, OCTETS)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            yield chunk


def _found(services: Services, key: str) -> str | None:
    """The SHA-256 of an envelope in the blob store; None without one."""
    try:
        with services.blobs.open(key) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except FileNotFoundError:
        return None
