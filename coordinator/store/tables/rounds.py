"""Rounds: contributions, votes, openings, and what came out."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Double, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.store.tables.base import (
    ACTIVE_ROUND,
    UNSWEPT,
    Base,
    Digest,
    Json,
    Moment,
    PartKind,
    RefusalStep,
    RoundKind,
    RoundState,
    Size,
    holds,
    one_of,
)


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
        one_of("kind", RoundKind),
        one_of("state", RoundState),
        holds("swept", "swept IS NULL OR ended IS NOT NULL"),
        holds("numbers", "number >= 1 AND attempt >= 1 AND lease_attempts >= 0"),
        holds("ballot", "(ballot IS NULL) = (ballot_digest IS NULL) AND (ballot IS NULL) = (closed IS NULL)"),
        holds("collecting", "state <> 'collecting' OR (closed IS NULL AND opened IS NULL)"),
        holds("aggregating", "state <> 'aggregating' OR (closed IS NOT NULL AND opened IS NULL)"),
        holds("opening", "state NOT IN ('opening', 'complete') OR (closed IS NOT NULL AND opened IS NOT NULL)"),
        holds("order", "opened IS NULL OR closed IS NOT NULL"),
        holds("ended", "(state IN ('complete', 'failed')) = (ended IS NOT NULL)"),
        holds("complete", "(state = 'complete') = (model IS NOT NULL)"),
        holds("failed", "(state = 'failed') = (reason IS NOT NULL)"),
        holds(
            "lease", "(lease_owner IS NULL) = (lease_token IS NULL) AND (lease_owner IS NULL) = (lease_expires IS NULL)"
        ),
        holds("evaluation", "kind <> 'evaluation' OR model IS NULL OR model = base_model"),
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
        holds("completed", "(completed IS NULL) = (manifest IS NULL)"),
        holds("received", "received >= 0"),
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
    __table_args__ = (one_of("kind", PartKind), holds("number", "number >= 0"), holds("size", "size > 0"))

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
    __table_args__ = (one_of("step", RefusalStep),)

    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), primary_key=True)
    step: Mapped[RefusalStep] = mapped_column(primary_key=True)
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


class Metrics(Base):
    """Pooled counts of a round's base model, as opened, and the measures derived from them."""

    __tablename__ = "metrics"

    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    counts: Mapped[Json]
    derived: Mapped[Json]
