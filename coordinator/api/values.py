"""The JSON that calls take and give, as docs/wire.md lists it. Messages of the protocol pass through as they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from coordinator.store import privacy, tables
from crypto.identity import PublicIdentity
from crypto.plan import Release, SchemeName, Weighting
from crypto.privacy import assumptions
from crypto.schemes import SCHEMES

# Control characters garble terminals and logs, and PostgreSQL keeps no text with a NUL in it.
_ENDS, _WITHIN = r"[^\s\x00-\x1f\x7f]", r"[^\x00-\x1f\x7f]*"
Name = Annotated[str, Field(min_length=1, max_length=80, pattern=f"^{_ENDS}({_WITHIN}{_ENDS})?$")]


Text = Annotated[str, Field(max_length=200, pattern=f"^{_WITHIN}$", description="without control characters")]


class Request(BaseModel):
    """What a caller sends: keys unknown to this version are refused."""

    model_config = ConfigDict(extra="forbid")


class Enrolment(Request):
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
    name: Name
    signing_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    hpke_key: Annotated[str, Field(pattern="^[0-9a-f]{2432}$")]
    proof: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


class Enrolled(BaseModel):
    """`again`: the site was enrolled before and has new keys now."""

    site: UUID
    coordinator: UUID
    again: bool


class InvitationWish(Request):
    model_config = ConfigDict(json_schema_extra={"examples": [{"note": "hospital A, radiology", "hours": 72}]})

    note: Text = ""
    hours: Annotated[float, Field(gt=0, le=24 * 365)] = 72


class Invitation(BaseModel):
    invitation: str
    expires: float


class ListedInvitation(BaseModel):
    """`used_by` is the site that enrolled with it; `renews` the one that it is for, where that is enrolled already."""

    model_config = ConfigDict(from_attributes=True)

    hash: str
    note: str
    created: float
    expires: float
    used_by: UUID | None
    renews: UUID | None


class Status(BaseModel):
    product: Literal["pleura"]
    version: str
    protocols: list[int]
    coordinator: UUID
    time: float


class PrivacyPromise(BaseModel):
    """`deviation`: of the noise in each value of an opened sum, at least. `epsilon`: of all the study's rounds, at
    `delta`, if each is opened once; what it is by now, the rounds say. `assumptions`: what it stands on."""

    clip: float
    noise_multiplier: float
    deviation: float
    delta: float
    epsilon: float
    assumptions: list[str]

    @classmethod
    def of(cls, row: tables.Study) -> Self | None:
        promised = privacy.promise(row)
        if promised is None:
            return None
        return cls(
            **promised.model_dump(),
            deviation=promised.deviation,
            epsilon=promised.epsilon(row.rounds),
            assumptions=list(assumptions(row.minimum_contributors)),
        )


class Study(BaseModel):
    """`round`: the last completed training round. `reason`: why it was paused by itself, ended early or was stopped.

    `trust`: against whom the scheme protects an update. `waiting`: what a running study lacks for its next round; told
    to operators, of one study at a time.
    """

    id: UUID
    name: str
    state: tables.StudyState
    reason: str | None
    scheme: SchemeName
    trust: str
    release: Release
    weighting: Weighting
    minimum_contributors: int
    expected_sites: int | None
    rounds: int
    round: int
    fraction: float
    k_max: int
    collect_seconds: int
    vote_seconds: int
    open_seconds: int
    recipe: dict[str, Any]
    recipe_digest: str
    layout: dict[str, Any]
    layout_digest: str
    model: str
    first_model: str
    member: bool
    privacy: PrivacyPromise | None
    waiting: str | None = None

    @classmethod
    def of(cls, row: tables.Study, *, member: bool, waiting: str | None = None) -> Self:
        same = set(cls.model_fields) - {"round", "model", "member", "trust", "privacy", "waiting"}
        return cls(
            **{name: getattr(row, name) for name in same},
            round=row.completed,
            model=row.current_model,
            trust=SCHEMES[row.scheme].trust,
            member=member,
            privacy=PrivacyPromise.of(row),
            waiting=waiting,
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
    members: str | None
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


class Intervals(BaseModel):
    """Ends [low, high] of 95 % intervals, in the shapes of the measures: Wilson's of shares, DeLong's of areas.

    None where the counts tell no figure.
    """

    accuracy: list[float] | None
    macro_auc: list[float] | None
    sensitivity: list[list[float] | None]
    specificity: list[list[float] | None]
    auc: list[list[float] | None]


class Measures(BaseModel):
    """What pooled counts tell of a round's base model; lists have a value a class, against all others.

    None where the counts do not tell, or the round was measured before there was such a figure. `macro_...` is the mean
    over the classes that have a figure. `auc_margin`: how far binning the scores can have moved an area at most.
    """

    cases: int | None = None
    class_cases: list[int] | None = None
    loss: float | None = None
    accuracy: float | None = None
    sensitivity: list[float | None] | None = None
    specificity: list[float | None] | None = None
    auc: list[float | None] | None = None
    macro_sensitivity: float | None = None
    macro_specificity: float | None = None
    macro_auc: float | None = None
    auc_margin: list[float] | None = None
    intervals: Intervals | None = None


class SiteMeasures(BaseModel):
    """Of one site's cases, which said so."""

    site: str
    metrics: Measures


class Round(BaseModel):
    round: int
    attempt: int
    kind: tables.RoundKind
    state: tables.RoundState
    reason: str | None
    plan: str
    contributors: list[str]
    carried: list[str]
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
    metrics: Measures | None
    site_evaluations: list[SiteMeasures]
    epsilon: float | None


class AuditRow(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    seq: int
    time: float
    actor: str
    action: str
    detail: dict[str, Any]
    previous: str
    hash: str
