"""Every table, and the states that the database itself refuses.

Times are Unix seconds. Digests are SHA-256 in hex. Messages of the protocol are kept as the JSON they were received
as (`Signed[X].to_json()`); what counts about them is re-encoded canonically, so a database may reorder keys.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from crypto.plan import Release, SchemeName, Weighting

Digest = Annotated[str, "sha256"]
Moment = Annotated[float, "unix seconds"]
Size = Annotated[int, "bytes"]
Json = dict[str, Any]

Role = Literal["operator", "auditor"]
SiteState = Literal["active", "suspended"]
StudyState = Literal["draft", "running", "paused", "finished", "stopped"]
RoundKind = Literal["training", "evaluation"]
RoundState = Literal["collecting", "aggregating", "opening", "complete", "failed"]
PartKind = Literal["body", "key", "opened", "sealed"]
RefusalStep = Literal["plan", "ballot", "opening"]

ACTIVE_ROUND = "state IN ('collecting', 'aggregating', 'opening')"
UNSWEPT = "swept IS NULL"
_LITERALS = (Role, SiteState, StudyState, Release, Weighting, RoundKind, RoundState, PartKind, RefusalStep, SchemeName)


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        UUID: Uuid(),
        Digest: String(64),
        Moment: Double(),
        Size: BigInteger(),
        Json: JSON(),
        list[Any]: JSON(),
        **{literal: String(16) for literal in _LITERALS},
    }
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _one_of(column: str, literal: Any) -> CheckConstraint:
    values = ", ".join(f"'{value}'" for value in literal.__args__)
    return CheckConstraint(f"{column} IN ({values})", name=column)


def _holds(name: str, condition: str) -> CheckConstraint:
    return CheckConstraint(condition, name=name)


class Instance(Base):
    """One row: who this coordinator is. Sites address their tokens to `coordinator`. `blobs` is the id of the blob
    store that belongs to this database, null until a coordinator first served with it."""

    __tablename__ = "instance"
    __table_args__ = (_holds("one_row", "id = 1"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    coordinator: Mapped[UUID]
    blobs: Mapped[UUID | None]


class Chore(Base):
    """What one of all replicas does now and then, and when it was last begun."""

    __tablename__ = "chores"

    name: Mapped[str] = mapped_column(primary_key=True)
    begun: Mapped[Moment]


class Operator(Base):
    __tablename__ = "operators"
    __table_args__ = (_one_of("role", Role),)

    name: Mapped[str] = mapped_column(primary_key=True)
    token_hash: Mapped[Digest] = mapped_column(unique=True)
    role: Mapped[Role]
    created: Mapped[Moment]
    expires: Mapped[Moment | None]
    revoked: Mapped[Moment | None]


class Login(Base):
    """Somebody's login to the pages, by the hash of the id in the browser's cookie; over with the token it was made
    with."""

    __tablename__ = "logins"

    hash: Mapped[Digest] = mapped_column(primary_key=True)
    token_hash: Mapped[Digest]
    expires: Mapped[Moment] = mapped_column(index=True)


class Site(Base):
    __tablename__ = "sites"
    __table_args__ = (_one_of("state", SiteState),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    signing_key: Mapped[str] = mapped_column(unique=True)
    hpke_key: Mapped[str] = mapped_column(unique=True)
    fingerprint: Mapped[Digest] = mapped_column(unique=True)
    enrolled: Mapped[Moment]
    last_seen: Mapped[Moment]
    state: Mapped[SiteState] = mapped_column(default="active")


class Invitation(Base):
    """Single use: `used_by` is the site that enrolled with it. Only the invitation's hash is kept. One with `renews` is
    for that site alone, which takes new keys with it."""

    __tablename__ = "invitations"

    hash: Mapped[Digest] = mapped_column(primary_key=True)
    note: Mapped[str]
    created: Mapped[Moment]
    expires: Mapped[Moment]
    used_by: Mapped[UUID | None] = mapped_column(ForeignKey("sites.id"))
    renews: Mapped[UUID | None] = mapped_column(ForeignKey("sites.id"))


class SeenToken(Base):
    """A JWT id that was used; kept until the token would have expired anyway."""

    __tablename__ = "seen_tokens"

    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    jti: Mapped[str] = mapped_column(primary_key=True)
    expires: Mapped[Moment] = mapped_column(index=True)


class Model(Base):
    """A safetensors file in the blob store. `study_id` and `round` are null for an uploaded first model, from which
    several studies may start (so no foreign key: studies point here)."""

    __tablename__ = "models"
    __table_args__ = (
        _holds("made_by_a_round", "(study_id IS NULL) = (round IS NULL) AND (study_id IS NULL) = (parent IS NULL)"),
        _holds("size", "size > 0"),
    )

    digest: Mapped[Digest] = mapped_column(primary_key=True)
    size: Mapped[Size]
    layout_digest: Mapped[Digest]
    recipe_digest: Mapped[Digest]
    created: Mapped[Moment]
    study_id: Mapped[UUID | None]
    round: Mapped[int | None]
    parent: Mapped[Digest | None] = mapped_column(ForeignKey("models.digest"))


class Study(Base):
    """`completed` counts the training rounds that made a model. `rounds`, times and limits become part of each plan.
    `bounds` has one number a tensor of the layout and moves with each round. `reason` says why a study was paused,
    finished early or was rolled back; `losses` counts the rounds lost in a row after their ballot was shown."""

    __tablename__ = "studies"
    __table_args__ = (
        _one_of("state", StudyState),
        _one_of("scheme", SchemeName),
        _one_of("release", Release),
        _one_of("weighting", Weighting),
        _holds("rounds", "rounds >= 1 AND completed BETWEEN 0 AND rounds"),
        _holds("losses", "losses >= 0"),
        _holds("minimum", "minimum_contributors BETWEEN 2 AND k_max"),
        _holds("expected_sites", "expected_sites IS NULL OR expected_sites BETWEEN minimum_contributors AND k_max"),
        _holds("limits", "k_max BETWEEN 2 AND 1024 AND n_max BETWEEN 1 AND 16777215"),
        _holds("fraction", "fraction > 0 AND fraction <= 1"),
        _holds("seconds", "collect_seconds > 0 AND vote_seconds > 0 AND open_seconds > 0"),
        _holds("finished", "state <> 'finished' OR completed = rounds OR reason IS NOT NULL"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    state: Mapped[StudyState] = mapped_column(default="draft")
    reason: Mapped[str | None]
    scheme: Mapped[SchemeName]
    release: Mapped[Release]
    weighting: Mapped[Weighting]
    minimum_contributors: Mapped[int]
    expected_sites: Mapped[int | None]
    rounds: Mapped[int]
    completed: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    collect_seconds: Mapped[int]
    vote_seconds: Mapped[int]
    open_seconds: Mapped[int]
    k_max: Mapped[int]
    n_max: Mapped[int]
    fraction: Mapped[float] = mapped_column(Double(), default=1.0)
    recipe: Mapped[Json]
    recipe_digest: Mapped[Digest]
    layout: Mapped[Json]
    layout_digest: Mapped[Digest]
    bounds: Mapped[list[Any]]
    first_model: Mapped[Digest] = mapped_column(ForeignKey("models.digest"))
    current_model: Mapped[Digest] = mapped_column(ForeignKey("models.digest"))
    created: Mapped[Moment]


class Membership(Base):
    """`index` is the site's Shamir coordinate in the study, given once and kept when it leaves and returns. Where the
    study goes on counting sites that left, `not_carried` says why it does so no more with this one's last
    contribution."""

    __tablename__ = "memberships"
    __table_args__ = (UniqueConstraint("study_id", "index"), _holds("index", '"index" >= 1'))

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True, index=True)
    index: Mapped[int]
    joined: Mapped[Moment]
    left: Mapped[Moment | None]
    not_carried: Mapped[str | None]


class Approval(Base):
    """A site's last Signed[Approval] of its peers."""

    __tablename__ = "approvals"

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    signed: Mapped[Json]
    received: Mapped[Moment]


class Epoch(Base):
    """A Signed[EpochRecord]. The current one has the highest number; none is planned with once `retired` is set
    (a holder of its key left or was suspended)."""

    __tablename__ = "epochs"
    __table_args__ = (_holds("number", "number >= 1"),)

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    record: Mapped[Json]
    record_digest: Mapped[Digest] = mapped_column(unique=True)
    context_digest: Mapped[Digest]
    dealer: Mapped[UUID] = mapped_column(ForeignKey("sites.id"))
    created: Mapped[Moment]
    retired: Mapped[Moment | None]


class WrapAddition(Base):
    """A Signed[WrapAddition] to an epoch's record: a holder's wrap for another member, of several the first few; or,
    where the holder is the recipient, its word that it has opened one."""

    __tablename__ = "wrap_additions"
    __table_args__ = (ForeignKeyConstraint(["study_id", "epoch"], ["epochs.study_id", "epochs.number"]),)

    study_id: Mapped[UUID] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    recipient: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    holder: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    signed: Mapped[Json]
    received: Mapped[Moment]


class KeyBlob(Base):
    """A public context or a wrap that a member stored, by its digest."""

    __tablename__ = "key_blobs"
    __table_args__ = (_holds("size", "size > 0"),)

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    sha256: Mapped[Digest] = mapped_column(primary_key=True)
    size: Mapped[Size]
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"))
    stored: Mapped[Moment]


class Round(Base):
    """One attempt at a round.

    `ballot` is frozen when collecting ends (`closed`) and shown from `opened` on. `openers` lists
    {"site", "asked"} in the order in which they were asked. `tried` is how many answers did not open the sum together,
    where it takes several, and `trouble` says why. `swept` is when the ended attempt's parts and sums were
    deleted. `due` is the earliest time at which a conductor looks again after an error; the lease says which one is at
    work. `server_state` is what the server optimiser remembers after the round, a blob until the next one is complete.
    """

    __tablename__ = "rounds"
    __table_args__ = (
        UniqueConstraint("study_id", "number", "attempt"),
        Index(
            "one_active_round",
            "study_id",
            unique=True,
            sqlite_where=text(ACTIVE_ROUND),
            postgresql_where=text(ACTIVE_ROUND),
        ),
        Index("unswept_rounds", "study_id", sqlite_where=text(UNSWEPT), postgresql_where=text(UNSWEPT)),
        _one_of("kind", RoundKind),
        _one_of("state", RoundState),
        _holds("swept", "swept IS NULL OR ended IS NOT NULL"),
        _holds("numbers", "number >= 1 AND attempt >= 1 AND lease_attempts >= 0"),
        _holds("ballot", "(ballot IS NULL) = (ballot_digest IS NULL) AND (ballot IS NULL) = (closed IS NULL)"),
        _holds("collecting", "state <> 'collecting' OR (closed IS NULL AND opened IS NULL)"),
        _holds("aggregating", "state <> 'aggregating' OR (closed IS NOT NULL AND opened IS NULL)"),
        _holds("opening", "state NOT IN ('opening', 'complete') OR (closed IS NOT NULL AND opened IS NOT NULL)"),
        _holds("order", "opened IS NULL OR closed IS NOT NULL"),
        _holds("ended", "(state IN ('complete', 'failed')) = (ended IS NOT NULL)"),
        _holds("complete", "(state = 'complete') = (model IS NOT NULL)"),
        _holds("failed", "(state = 'failed') = (reason IS NOT NULL)"),
        _holds(
            "lease", "(lease_owner IS NULL) = (lease_token IS NULL) AND (lease_owner IS NULL) = (lease_expires IS NULL)"
        ),
        _holds("evaluation", "kind <> 'evaluation' OR model IS NULL OR model = base_model"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id"))
    number: Mapped[int]
    attempt: Mapped[int]
    kind: Mapped[RoundKind]
    state: Mapped[RoundState] = mapped_column(default="collecting")
    plan: Mapped[Json]
    plan_digest: Mapped[Digest] = mapped_column(unique=True)
    roster: Mapped[Json]
    base_model: Mapped[Digest] = mapped_column(ForeignKey("models.digest"))
    ballot: Mapped[Json | None] = mapped_column(JSON(none_as_null=True))
    ballot_digest: Mapped[Digest | None] = mapped_column(index=True)
    openers: Mapped[list[Any]] = mapped_column(default=list)
    tried: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    trouble: Mapped[str | None]
    reason: Mapped[str | None]
    model: Mapped[Digest | None] = mapped_column(ForeignKey("models.digest"))
    started: Mapped[Moment]
    closed: Mapped[Moment | None]
    opened: Mapped[Moment | None]
    ended: Mapped[Moment | None]
    add_seconds: Mapped[float | None] = mapped_column(Double())
    open_seconds: Mapped[float | None] = mapped_column(Double())
    swept: Mapped[Moment | None]
    server_state: Mapped[Digest | None]
    due: Mapped[Moment] = mapped_column(default=0.0)
    lease_owner: Mapped[str | None]
    lease_token: Mapped[UUID | None]
    lease_expires: Mapped[Moment | None]
    lease_attempts: Mapped[int] = mapped_column(default=0)

    @property
    def after_ballot(self) -> bool:
        """Whether a ballot was shown, so that failing ends the round number and not just the attempt."""
        return self.opened is not None


class Contribution(Base):
    """Counts once `completed` is set: the manifest verified and every part it lists is in. `received` is in bytes."""

    __tablename__ = "contributions"
    __table_args__ = (
        _holds("completed", "(completed IS NULL) = (manifest IS NULL)"),
        _holds("received", "received >= 0"),
    )

    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    manifest: Mapped[Json | None] = mapped_column(JSON(none_as_null=True))
    completed: Mapped[Moment | None]
    received: Mapped[Size] = mapped_column(default=0)


class Part(Base):
    """A part that lies in the blob store: of a contribution ("body", "key"), of an opened sum ("opened"), or an answer
    sealed to one member ("sealed"). Gone when the round has ended and its blobs were deleted."""

    __tablename__ = "parts"
    __table_args__ = (_one_of("kind", PartKind), _holds("number", "number >= 0"), _holds("size", "size > 0"))

    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    kind: Mapped[PartKind] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[Digest]
    size: Mapped[Size]


class _Word:
    """What a site signed about an attempt, once."""

    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    signed: Mapped[Json]
    received: Mapped[Moment]


class Vote(_Word, Base):
    __tablename__ = "votes"


class Opening(_Word, Base):
    """A Signed[Opening]; `rejection` says why it did not open the sum, null while it has not failed."""

    __tablename__ = "openings"

    rejection: Mapped[str | None]


class Refusal(Base):
    """A Signed[Refusal]: a site's no to a plan, a ballot or an opening, once a step."""

    __tablename__ = "refusals"
    __table_args__ = (_one_of("step", RefusalStep),)

    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    step: Mapped[RefusalStep] = mapped_column(primary_key=True)
    signed: Mapped[Json]
    received: Mapped[Moment]


class StudyRefusal(Base):
    """A Signed[StudyRefusal]: a site's no to a whole study. Gone once the site joins after all."""

    __tablename__ = "study_refusals"

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    signed: Mapped[Json]
    received: Mapped[Moment]


class Outcome(_Word, Base):
    """A member's Signed[Outcome], in a study released to its members only."""

    __tablename__ = "outcomes"


class SpotCheck(_Word, Base):
    """A site's Signed[SpotCheck] of a completed round."""

    __tablename__ = "spot_checks"


class SiteEvaluation(_Word, Base):
    """A site's Signed[SiteEvaluation] of an attempt's base model, and the measures derived from it: a site's own word
    in the open, where its policy allows it."""

    __tablename__ = "site_evaluations"

    derived: Mapped[Json]


class ModelRequest(Base):
    """A member that lacks a model which only members hold."""

    __tablename__ = "model_requests"

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    model: Mapped[Digest] = mapped_column(ForeignKey("models.digest"), primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    asked: Mapped[Moment]


class SealedModel(Base):
    """A Signed[SealedModel]: its envelope lies in the blob store."""

    __tablename__ = "sealed_models"

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    model: Mapped[Digest] = mapped_column(ForeignKey("models.digest"), primary_key=True)
    recipient: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    holder: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    signed: Mapped[Json]
    received: Mapped[Moment]


class Metrics(Base):
    """Pooled counts of a round's base model, as opened, and the measures derived from them."""

    __tablename__ = "metrics"

    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    counts: Mapped[Json]
    derived: Mapped[Json]


class Audit(Base):
    """Append-only. `hash` covers the row and the former row's hash; written by `coordinator.store.audit` alone."""

    __tablename__ = "audit"
    __table_args__ = (_holds("seq", "seq >= 1"),)

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    time: Mapped[Moment]
    actor: Mapped[str]
    action: Mapped[str]
    detail: Mapped[Json]
    previous: Mapped[Digest] = mapped_column(unique=True)
    hash: Mapped[Digest] = mapped_column(unique=True)


class Webhook(Base):
    """An address that is told of events. `secret` signs what is sent there, so that it is kept as it is; `seen` is the
    last audit row that was looked at for it."""

    __tablename__ = "webhooks"
    __table_args__ = (_holds("seen", "seen >= 0"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    url: Mapped[str]
    secret: Mapped[str]
    events: Mapped[list[Any]]
    created: Mapped[Moment]
    seen: Mapped[int]


class Delivery(Base):
    """An audit row on its way to a webhook. `due` is when it is tried next, null once it `ended`; `fault` says why the
    last try failed, so that one which ended with a fault was given up."""

    __tablename__ = "deliveries"
    __table_args__ = (_holds("ended", "(due IS NULL) = (ended IS NOT NULL)"), _holds("tries", "tries >= 0"))

    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(ForeignKey("audit.seq"), primary_key=True)
    tries: Mapped[int] = mapped_column(default=0)
    due: Mapped[Moment | None] = mapped_column(index=True)
    ended: Mapped[Moment | None]
    fault: Mapped[str | None]
