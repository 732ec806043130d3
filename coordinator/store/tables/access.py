"""Who this coordinator is, who may call it, and what was asked of each."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.store.tables.base import Base, Digest, Moment, Role, SiteState, holds, one_of


class Instance(Base):
    """One row: who this coordinator is. Sites address their tokens to `coordinator`. `blobs` is the id of the blob
    store that belongs to this database, null until a coordinator first served with it."""

    __tablename__ = "instance"
    __table_args__ = (holds("one_row", "id = 1"),)

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
    __table_args__ = (one_of("role", Role),)

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
    __table_args__ = (one_of("state", SiteState),)

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
