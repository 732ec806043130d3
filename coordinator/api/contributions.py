"""Uploads: parts, key parts, manifest. Parts go in and never out again; key parts go out with the ballot."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.api.bodies import CheckedOctets, signed
from coordinator.api.openapi import refusals, takes, takes_octets
from coordinator.api.places import ThisAttempt
from coordinator.api.public import Serving
from coordinator.api.values import Delivered
from coordinator.auth import CallingSite
from coordinator.errors import (
    DigestMismatch,
    DiskFull,
    ManifestDiffers,
    ManifestRefused,
    NotAMember,
    NotFound,
    PartDiffers,
    PartSize,
    PartsMissing,
    RoundClosed,
)
from coordinator.services import Services
from coordinator.store import answers, contributions
from coordinator.store.blobs import Blobs, part_key, study_key
from coordinator.store.contributions import Place
from coordinator.store.tables import Epoch, Round, Study
from crypto.checks import check_manifest
from crypto.ckks_public import PublicContext, check_key_part
from crypto.errors import CryptoError, MalformedKeyPart
from crypto.layout import Layout
from crypto.manifest import Manifest
from crypto.plan import Plan, Roster
from crypto.schemes import scheme
from crypto.wire import Signed

router = APIRouter(prefix="/v1/studies/{study}/rounds/{round}/{attempt}", tags=["contributions"])
KEY_PARTS: Final = 1  # lwe-ckks: one ciphertext of s
Number = Annotated[int, Path(ge=0, le=2**31 - 1)]
_PART_REFUSALS = refusals(DigestMismatch, PartSize, PartDiffers, RoundClosed, NotAMember, DiskFull)


@router.get("/parts", responses=refusals(NotFound, NotAMember))
def delivered(services: Serving, site: CallingSite, here: ThisAttempt) -> Delivered:
    """What this site has delivered: an interrupted upload goes on from here."""

    def look(session: Session) -> Delivered:
        row = here.row(session)
        contributions.check_on_roster(row, site.id)
        return Delivered.model_validate(contributions.delivered(session, row, site.id))

    return services.store.read("delivered", look)


@router.put("/parts/{number}", status_code=204, responses=_PART_REFUSALS, openapi_extra=takes_octets())
def put_part(services: Serving, site: CallingSite, here: ThisAttempt, number: Number, body: CheckedOctets) -> None:
    """One part of the body. Again with the same bytes: 204, whenever."""
    row = services.store.read("find attempt", here.row)
    data, digest = body
    if _is_new(services, row, Place(row.id, site.id, "body", number), digest):
        _check_size(services, row, number, len(data))
        _keep(services, Place(row.id, site.id, "body", number), data, digest)


@router.put(
    "/key-parts/{number}",
    status_code=204,
    responses={**_PART_REFUSALS, **refusals(PartSize, MalformedKeyPart)},
    openapi_extra=takes_octets(),
)
def put_key_part(services: Serving, site: CallingSite, here: ThisAttempt, number: Number, body: CheckedOctets) -> None:
    """One key part. Its form is checked at once: a malformed one would cost all sites the round later."""
    row = services.store.read("find attempt", here.row)
    data, digest = body
    if _is_new(services, row, Place(row.id, site.id, "key", number), digest):
        plan = Plan.from_json(row.plan)
        limit = scheme(plan.scheme).key_part_limit(plan)
        if number >= KEY_PARTS or len(data) > limit:
            raise PartSize(
                f"A contribution has {KEY_PARTS} key part, number 0, of at most {limit} bytes; this is number {number} "
                f"with {len(data)}.",
                {"expected": limit, "received": len(data)},
            )
        check_key_part(_context_of(services, row), data)
        _keep(services, Place(row.id, site.id, "key", number), data, digest)


@router.put(
    "/manifest",
    status_code=204,
    responses=refusals(ManifestRefused, ManifestDiffers, PartsMissing, RoundClosed, NotAMember),
    openapi_extra=takes(Manifest),
)
def put_manifest(
    services: Serving,
    site: CallingSite,
    here: ThisAttempt,
    manifest: Annotated[Signed[Manifest], signed(Manifest)],
) -> None:
    """The signed list of the parts: with it the contribution counts."""

    def complete(session: Session) -> None:
        row = here.row(session)
        _verify(row, site.id, manifest)
        parts = len(_part_sizes(session, row))
        contributions.complete(session, row, parts, manifest, services.clock.now())

    services.store.run("complete contribution", complete)


@router.get("/key-parts/{contributor}/{number}", response_class=Response, responses=refusals(NotFound, NotAMember))
def fetch_key_part(
    services: Serving, site: CallingSite, here: ThisAttempt, contributor: UUID, number: Number
) -> Response:
    """A contributor's key part, for members of the plan's roster, once the ballot is shown."""

    def find(session: Session) -> Place:
        row = here.row(session)
        contributions.check_on_roster(row, site.id)
        ballot = answers.shown_ballot(row)
        place = Place(row.id, contributor, "key", number)
        listed = any(entry.message.site == contributor for entry in ballot.manifests)
        if not listed or contributions.find_part(session, place) is None:
            raise NotFound("The ballot lists no such key part, or the attempt has ended and its parts are deleted.")
        return place

    place = services.store.read("find key part", find)
    data = services.blobs.read(part_key(place.round_id, place.site, place.kind, place.number))
    return Response(data, media_type="application/octet-stream")


def _is_new(services: Services, row: Round, place: Place, digest: str) -> bool:
    """Whether the part is still wanted; raises if it cannot be taken."""
    contributions.check_on_roster(row, place.site)
    there = services.store.read("find part", lambda session: contributions.already_there(session, place, digest))
    if not there:
        contributions.check_may_contribute(row, place.site)
    return not there


def _check_size(services: Services, row: Round, number: int, size: int) -> None:
    sizes = services.store.read("find sizes", lambda session: _part_sizes(session, row))
    expected = sizes[number] if number < len(sizes) else None
    if size != expected:
        wanted = f"part {number} has {expected} bytes" if expected else f"there are parts 0 to {len(sizes) - 1}"
        raise PartSize(
            f"Under this plan's layout {wanted}; this is part {number} with {size}. Is it of another plan?",
            {"expected": expected, "received": size},
        )


def _keep(services: Services, place: Place, data: bytes, digest: str) -> None:
    """Blob first, row second: a row without its blob would be a lie, a blob without its row is sent again."""
    key = part_key(place.round_id, place.site, place.kind, place.number)
    stored = services.blobs.put_bytes(key, data)
    try:
        services.store.run("note part", lambda session: contributions.note_part(session, place, digest, stored.size))
    except RoundClosed:
        services.blobs.delete(key)  # it closed while the bytes came in
        raise


def _part_sizes(session: Session, row: Round) -> tuple[int, ...]:
    plan, layout = Plan.from_json(row.plan), Layout.from_json(session.get_one(Study, row.study_id).layout)
    return scheme(plan.scheme).part_sizes(plan, layout)


def _verify(row: Round, site: UUID, manifest: Signed[Manifest]) -> None:
    if manifest.message.site != site:
        raise ManifestRefused("This manifest names another site than the one that sends it.")
    try:
        check_manifest(manifest, Plan.from_json(row.plan), Roster.from_json(row.roster))
    except CryptoError as error:
        raise ManifestRefused(f"This manifest is refused: {error}.") from error


def _context_of(services: Services, row: Round) -> PublicContext:
    def find(session: Session) -> str:
        query = select(Epoch.context_digest).where(Epoch.record_digest == row.plan["epoch"])
        return session.scalars(query).one()

    return _load_context(services.blobs, row.study_id, services.store.read("find context", find))


@lru_cache(maxsize=8)
def _load_context(blobs: Blobs, study: UUID, digest: str) -> PublicContext:
    return PublicContext.load(blobs.read(study_key(study, digest)))
