"""Key epochs: public contexts, wraps, records."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Response
from sqlalchemy.orm import Session

from coordinator.api.bodies import Octets, blob, signed
from coordinator.api.openapi import gives_octets, refusals, takes, takes_octets
from coordinator.api.public import Serving
from coordinator.api.values import Epoch
from coordinator.auth import AnyCaller, CallingSite
from coordinator.errors import (
    Conflict,
    DigestMismatch,
    EpochExists,
    KeyLimit,
    MessageRefused,
    NotAMember,
    NotFound,
    PartsMissing,
    RequestInvalid,
)
from coordinator.store import epochs, key_blobs, memberships, studies
from coordinator.store.blobs import study_key
from crypto.canonical import sha256
from crypto.ckks_public import PublicContext
from crypto.epoch import EpochRecord, WrapAddition
from crypto.errors import InvalidSignature, Malformed, PrivateContext
from crypto.wire import Signed

router = APIRouter(prefix="/v1/studies/{study}", tags=["keys"])
Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


@router.get("/epoch")
def show_epoch(services: Serving, caller: AnyCaller, study: UUID) -> Epoch:
    """The current key epoch, or who is asked to deal the next."""
    now, recent = services.clock.now(), services.settings.recent_seen_seconds
    found = services.store.read("epoch", lambda session: epochs.view(session, studies.get(session, study), now, recent))
    return Epoch.model_validate(found)


@router.put(
    "/keys/{digest}",
    status_code=204,
    responses=refusals(DigestMismatch, NotAMember, KeyLimit, PrivateContext),
    openapi_extra=takes_octets(),
)
def store_key(services: Serving, site: CallingSite, study: UUID, digest: Sha256, data: Octets) -> None:
    """A public context, or one wrap, by its SHA-256. A private context is refused before it touches the disk."""
    if sha256(data) != digest:
        raise DigestMismatch("The bytes do not have the SHA-256 in the address. Send them again.")
    if not data:
        raise RequestInvalid("A context or a wrap is not empty.")
    _refuse_secrets(data)

    def known(session: Session) -> bool:
        memberships.check_member(session, studies.get(session, study).id, site.id)
        if key_blobs.find(session, study, digest) is not None:
            return True
        key_blobs.check_room(session, study, site.id, len(data))
        return False

    if services.store.read("find key", known):
        return
    stored = services.blobs.put_bytes(study_key(study, digest), data)
    now = services.clock.now()
    services.store.run("store key", lambda session: key_blobs.note(session, study, digest, stored.size, site.id, now))


def _refuse_secrets(data: bytes) -> None:
    """Raises PrivateContext if the bytes are a context with its secret key; wraps are no contexts at all."""
    try:
        PublicContext.load(data)
    except PrivateContext:
        raise
    except Malformed:
        return


@router.get(
    "/keys/{digest}",
    response_class=Response,
    responses=gives_octets("The context or the wrap") | refusals(NotFound, NotAMember),
)
def fetch_key(services: Serving, site: CallingSite, study: UUID, digest: Sha256) -> Response:
    """A public context or a wrap."""
    gone = f"This study has no context or wrap {digest[:12]}..., or its key was given up and it is deleted."

    def check(session: Session) -> None:
        memberships.check_member(session, studies.get(session, study).id, site.id)
        if key_blobs.find(session, study, digest) is None:
            raise NotFound(gone)

    services.store.read("find key", check)
    return blob(services, study_key(study, digest), gone)


@router.put(
    "/epoch",
    status_code=204,
    responses=refusals(EpochExists, Conflict, PartsMissing, MessageRefused, InvalidSignature, PrivateContext),
    openapi_extra=takes(EpochRecord),
)
def publish(
    services: Serving, site: CallingSite, study: UUID, record: Annotated[Signed[EpochRecord], signed(EpochRecord)]
) -> None:
    """Make a dealt key the study's current one; context and wraps come first. Those of former keys are deleted."""

    def check(session: Session) -> bool:
        memberships.check_member(session, studies.get(session, study).id, site.id)
        return key_blobs.find(session, study, record.message.context) is not None

    if services.store.read("find context", check):
        PublicContext.load(services.blobs.read(study_key(study, record.message.context)))
    now, recent = services.clock.now(), services.settings.recent_seen_seconds
    former = services.store.run(
        "publish epoch",
        lambda session: epochs.publish(session, studies.get(session, study), site, record, now, recent),
    )
    for sha256_of in former:
        services.blobs.delete(study_key(study, sha256_of))


@router.post(
    "/epoch/additions",
    status_code=204,
    responses=refusals(NotFound, PartsMissing, MessageRefused, InvalidSignature),
    openapi_extra=takes(WrapAddition),
)
def extend(
    services: Serving, site: CallingSite, study: UUID, addition: Annotated[Signed[WrapAddition], signed(WrapAddition)]
) -> None:
    """A wrap for a member that lacks the key, made by a holder; or a member's word that it opened one."""

    def extend(session: Session) -> None:
        memberships.check_member(session, study, site.id)
        epochs.extend(session, studies.get(session, study), site, addition, services.clock.now())

    services.store.run("extend epoch", extend)
