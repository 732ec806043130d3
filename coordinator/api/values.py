"""The JSON that calls take and give, as docs/wire.md lists it. Messages of the protocol pass through as they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from coordinator.store import tables
from coordinator.store.studies import Wishes
from crypto.identity import PublicIdentity
from crypto.parameters import K_LIMIT
from crypto.plan import Release, SchemeName
from crypto.schemes import SCHEMES
from crypto.wire import Digest

_Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^\S(.*\S)?$")]
_Positive = Annotated[int, Field(ge=1)]
_Seconds = Annotated[int, Field(ge=1, le=30 * 24 * 3600)]
_Contributors = Annotated[int, Field(ge=2, le=K_LIMIT)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Enrolment(_Request):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "invitation": "pleura-invitation-J0b2n1...",
                    "name": "hospital-a",
                    "signing_key": "00" * 32,
                    "hpke_key": "00" * 1216,
                    "proof": "00" * 64,
                }
            ]
        }
    )

    invitation: Annotated[str, Field(min_length=1, max_length=200)]
    name: _Name
    signing_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    hpke_key: Annotated[str, Field(pattern="^[0-9a-f]{2432}$")]
    proof: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


class Enrolled(BaseModel):
    """`again`: the site was enrolled before and has new keys now."""

    site: UUID
    coordinator: UUID
    again: bool


class InvitationWish(_Request):
    model_config = ConfigDict(json_schema_extra={"examples": [{"note": "hospital A, radiology", "hours": 72}]})

    note: Annotated[str, Field(max_length=200)] = ""
    hours: Annotated[float, Field(gt=0, le=24 * 365)] = 72


class Invitation(BaseModel):
    invitation: str
    expires: float


class Status(BaseModel):
    product: Literal["pleura"]
    version: str
    protocols: list[int]
    coordinator: UUID
    time: float


class StudyWish(_Request):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "covid-ct", "model": "9f86d081" * 8, "scheme": "lwe-ckks", "rounds": 10}]
        }
    )

    name: _Name
    model: Digest
    scheme: SchemeName = "lwe-ckks"
    release: Release = "open"
    rounds: _Positive | None = None
    minimum_contributors: _Contributors | None = None
    weighting: tables.Weighting | None = None
    expected_sites: _Contributors | None = None
    k_max: _Contributors | None = None
    collect_seconds: _Seconds = 3600
    vote_seconds: _Seconds = 300
    open_seconds: _Seconds = 300

    def wishes(self) -> Wishes:
        return Wishes(**self.model_dump())


class Study(BaseModel):
    """`round`: the last completed training round. `reason`: why it was paused by itself.

    `trust`: against whom the scheme protects an update.
    """

    id: UUID
    name: str
    state: tables.StudyState
    reason: str | None
    scheme: SchemeName
    trust: str
    release: Release
    weighting: tables.Weighting
    minimum_contributors: int
    expected_sites: int | None
    rounds: int
    round: int
    recipe: dict[str, Any]
    recipe_digest: str
    layout: dict[str, Any]
    layout_digest: str
    model: str
    first_model: str
    member: bool

    @classmethod
    def of(cls, row: tables.Study, *, member: bool) -> Self:
        same = set(cls.model_fields) - {"round", "model", "member", "trust"}
        return cls(
            **{name: getattr(row, name) for name in same},
            round=row.completed,
            model=row.current_model,
            trust=SCHEMES[row.scheme].trust,
            member=member,
        )


class Site(BaseModel):
    """`words`: the start of the fingerprint in words, to compare by telephone."""

    id: UUID
    name: str
    fingerprint: str
    words: str
    enrolled: float
    last_seen: float
    state: tables.SiteState

    @classmethod
    def of(cls, row: tables.Site) -> Self:
        public = PublicIdentity.from_hex(row.signing_key, row.hpke_key)
        same = set(cls.model_fields) - {"words"}
        return cls(**{name: getattr(row, name) for name in same}, words=public.words)


class Model(BaseModel):
    model: str
    layout_digest: str
    recipe_digest: str


class Epoch(BaseModel):
    state: Literal["none", "current"]
    number: int
    dealer: str | None
    record: dict[str, Any] | None
    additions: list[dict[str, Any]]
    missing: list[str]


class Last(BaseModel):
    round: int
    attempt: int
    state: Literal["complete", "failed"]
    reason: str | None
    contributors: list[str]
    model: str


class Task(BaseModel):
    cursor: str
    study_state: tables.StudyState
    phase: Literal["waiting", "collecting", "aggregating", "opening"]
    epoch: Epoch
    plan: dict[str, Any] | None
    roster: dict[str, Any] | None
    contributed: bool
    ballot: str | None
    voted: bool
    votes: int
    openers: list[str]
    opened: bool
    answers: int
    derived: bool
    model_wanted: list[str]
    model_offers: list[str]
    last: Last | None


class Delivered(BaseModel):
    """What a site has delivered to one attempt: SHA-256 by number."""

    parts: dict[str, str]
    key_parts: dict[str, str]
    manifest: bool


class Round(BaseModel):
    round: int
    attempt: int
    kind: tables.RoundKind
    state: tables.RoundState
    reason: str | None
    plan: str
    contributors: list[str]
    votes: int
    openings: list[dict[str, str | None]]
    refusals: list[dict[str, str]]
    model: str | None
    spot_checks: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    bytes_received: int
    started: float
    closed: float | None
    opened: float | None
    ended: float | None
    seconds: dict[str, float | None]
    metrics: dict[str, Any] | None


class AuditRow(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    seq: int
    time: float
    actor: str
    action: str
    detail: dict[str, Any]
    previous: str
    hash: str
