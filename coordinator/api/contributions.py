"""Uploads: parts, key parts, manifest. Key parts go out with the ballot; parts for spot checks only, see there."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path, Response
from sqlalchemy.orm import Session

from coordinator.api.bodies import CheckedOctets, blob, signed
from coordinator.api.openapi import gives_octets, refusals, takes, takes_octets
from coordinator.api.places import ThisAttempt
from coordinator.api.public import Serving
from coordinator.api.values import Delivered
from coordinator.auth import CallingSite
from coordinator.contexts import context_of
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
from coordinator.store import answers, carrying, contributions
from coordinator.store.blobs import part_key
from coordinator.store.contributions import Place
from coordinator.store.kept import plan_of, roster_of
from coordinator.store.tables import Round, Study
from crypto.checks import check_manifest, key_part_count
from crypto.ckks_public import check_key_part
from crypto.errors import CryptoError, MalformedKeyPart
from crypto.layout import Layout
from crypto.manifest import Manifest
from crypto.plan import Plan
from crypto.schemes import scheme
from crypto.schemes.shares import check_sealed_share
from crypto.wire import Signed

router = APIRouter(prefix="/v1/studies/{study}/rounds/{round}/{attempt}", tags=["contributions"])
_NO_KEY_PART: Final = "The ballot lists no such key part, or the attempt has ended and its parts are deleted."
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
        _check_part(services, row, number, data)
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
        _check_key_part(services, row, number, data)
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
        plan, layout = _plan_and_layout(session, row)
        parts = len(scheme(plan.scheme).part_sizes(plan, layout))
        contributions.complete(session, row, parts, manifest, services.clock.now())

    services.store.run("complete contribution", complete)


@router.get(
    "/key-parts/{contributor}/{number}",
    response_class=Response,
    responses=gives_octets("The key part") | refusals(NotFound, NotAMember),
)
def fetch_key_part(
    services: Serving, site: CallingSite, here: ThisAttempt, contributor: UUID, number: Number
) -> Response:
    """A contributor's key part, once the ballot is shown: for all members; a share, for the one it is sealed to."""

    def find(session: Session) -> Place:
        row = here.row(session)
        contributions.check_on_roster(row, site.id)
        listed = answers.in_ballot(row, contributor)
        place = Place(carrying.place_of(session, row, contributor), contributor, "key", number)
        if not listed or contributions.find_part(session, place) is None:
            raise NotFound(_NO_KEY_PART)
        _check_addressee(row, site.id, number)
        return place

    place = services.store.read("find key part", find)
    return blob(services, part_key(place.round_id, place.site, place.kind, place.number), _NO_KEY_PART)


def _check_key_part(services: Services, row: Round, number: int, data: bytes) -> None:
    plan = plan_of(row)
    count, limit = key_part_count(plan, roster_of(row)), scheme(plan.scheme).key_part_limit(plan)
    if number >= count or len(data) > limit:
        raise PartSize(
            f"A contribution under {plan.scheme} has {count} key parts, numbered from 0, of at most {limit} bytes; "
            f"this is number {number} with {len(data)}.",
            {"expected": limit, "received": len(data)},
        )
    public = context_of(services.store, services.blobs, plan)
    if public is None:
        check_sealed_share(data)
    else:
        check_key_part(public, data)


def _check_addressee(row: Round, site: UUID, number: int) -> None:
    """Shares are sealed to one member each: nobody else has any use for one."""
    plan, roster = plan_of(row), roster_of(row)
    if plan.scheme == "lwe-shamir" and (number >= len(roster.members) or roster.members[number].site != site):
        raise NotFound("This share is sealed to another member: fetch the one at this site's place in the roster.")


def _is_new(services: Services, row: Round, place: Place, digest: str) -> bool:
    """Whether the part is still wanted; raises if it cannot be taken."""
    contributions.check_on_roster(row, place.site)
    there = services.store.read("find part", lambda session: contributions.already_there(session, place, digest))
    if not there:
        contributions.check_may_contribute(row, place.site)
    return not there


def _check_part(services: Services, row: Round, number: int, data: bytes) -> None:
    """Its form is checked at once: a part that cannot be added would cost all sites the round later."""
    plan, layout = services.store.read("find layout", lambda session: _plan_and_layout(session, row))
    sizes = scheme(plan.scheme).part_sizes(plan, layout)
    expected = sizes[number] if number < len(sizes) else None
    if expected is None or len(data) > expected or (plan.scheme != "ckks" and len(data) != expected):
        wanted = f"part {number} has {expected} bytes" if expected else f"there are parts 0 to {len(sizes) - 1}"
        raise PartSize(
            f"Under this plan's layout {wanted}; this is part {number} with {len(data)}. Is it of another plan?",
            {"expected": expected, "received": len(data)},
        )
    public = context_of(services.store, services.blobs, plan) if plan.scheme == "ckks" else None
    scheme(plan.scheme).check_part(plan, layout, number, data, public)


def _keep(services: Services, place: Place, data: bytes, digest: str) -> None:
    """Blob first, row second: a row without its blob would be a lie, a blob without its row is sent again."""
    key = part_key(place.round_id, place.site, place.kind, place.number)
    stored = services.blobs.put_bytes(key, data)
    try:
        services.store.run("note part", lambda session: contributions.note_part(session, place, digest, stored.size))
    except RoundClosed:
        services.blobs.delete(key)  # it closed while the bytes came in
        raise


def _plan_and_layout(session: Session, row: Round) -> tuple[Plan, Layout]:
    return plan_of(row), Layout.from_json(session.get_one(Study, row.study_id).layout)


def _verify(row: Round, site: UUID, manifest: Signed[Manifest]) -> None:
    if manifest.message.site != site:
        raise ManifestRefused("This manifest names another site than the one that sends it.")
    try:
        check_manifest(manifest, plan_of(row), roster_of(row))
    except CryptoError as error:
        raise ManifestRefused(f"This manifest is refused: {error}.") from error
