"""What happened, and whom it is told."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.store.tables.base import Base, Digest, Json, Moment, holds


class Audit(Base):
    """Append-only. `hash` covers the row and the former row's hash; written by `coordinator.store.audit` alone."""

    __tablename__ = "audit"
    __table_args__ = (holds("seq", "seq >= 1"),)

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
    __table_args__ = (holds("seen", "seen >= 0"),)

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
    __table_args__ = (holds("ended", "(due IS NULL) = (ended IS NOT NULL)"), holds("tries", "tries >= 0"))

    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(ForeignKey("audit.seq"), primary_key=True)
    tries: Mapped[int] = mapped_column(default=0)
    due: Mapped[Moment | None] = mapped_column(index=True)
    ended: Mapped[Moment | None]
    fault: Mapped[str | None]
