"""Studies: their models, members and keys."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Double, ForeignKey, ForeignKeyConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.store.tables.base import Base, Digest, Json, Moment, Size, StudyState, holds, one_of
from crypto.plan import Release, SchemeName, Weighting


class Model(Base):
    """A safetensors file in the blob store. `study_id` and `round` are null for an uploaded first model, from which
    several studies may start (so no foreign key: studies point here)."""

    __tablename__ = "models"
    __table_args__ = (
        holds("made_by_a_round", "(study_id IS NULL) = (round IS NULL) AND (study_id IS NULL) = (parent IS NULL)"),
        holds("size", "size > 0"),
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
        one_of("state", StudyState),
        one_of("scheme", SchemeName),
        one_of("release", Release),
        one_of("weighting", Weighting),
        holds("rounds", "rounds >= 1 AND completed BETWEEN 0 AND rounds"),
        holds("losses", "losses >= 0"),
        holds("minimum", "minimum_contributors BETWEEN 2 AND k_max"),
        holds("expected_sites", "expected_sites IS NULL OR expected_sites BETWEEN minimum_contributors AND k_max"),
        holds("limits", "k_max BETWEEN 2 AND 1024 AND n_max BETWEEN 1 AND 16777215"),
        holds("fraction", "fraction > 0 AND fraction <= 1"),
        holds("seconds", "collect_seconds > 0 AND vote_seconds > 0 AND open_seconds > 0"),
        holds("finished", "state <> 'finished' OR completed = rounds OR reason IS NOT NULL"),
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
    __table_args__ = (UniqueConstraint("study_id", "index"), holds("index", '"index" >= 1'))

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
    __table_args__ = (holds("number", "number >= 1"),)

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
    __table_args__ = (holds("size", "size > 0"),)

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    sha256: Mapped[Digest] = mapped_column(primary_key=True)
    size: Mapped[Size]
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"))
    stored: Mapped[Moment]


class StudyRefusal(Base):
    """A Signed[StudyRefusal]: a site's no to a whole study. Gone once the site joins after all."""

    __tablename__ = "study_refusals"

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    signed: Mapped[Json]
    received: Mapped[Moment]


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
