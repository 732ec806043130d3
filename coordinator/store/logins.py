"""Logins to the pages: random ids in browsers' cookies, kept as hashes, good at every coordinator on this database."""

from __future__ import annotations

import secrets
from typing import Final

from sqlalchemy import delete
from sqlalchemy.orm import Session

from coordinator.store import audit, operators
from coordinator.store.tables import Login, Operator
from crypto.canonical import sha256

_RANDOM_BYTES: Final = 32


def open_for(session: Session, operator: Operator, expires: float, now: float) -> str:
    """A new login's id, in clear for this once. Those that are over are forgotten."""
    session.execute(delete(Login).where(Login.expires <= now))
    identifier = secrets.token_urlsafe(_RANDOM_BYTES)
    session.add(Login(hash=_hash(identifier), token_hash=operator.token_hash, expires=expires))
    audit.append(session, now, f"operator:{operator.name}", "operator.logged-in", {"role": operator.role})
    return identifier


def find(session: Session, identifier: str, now: float) -> Operator | None:
    """Whose login it is, unless it is over or the token that opened it is not good any more."""
    row = session.get(Login, _hash(identifier))
    if row is None or row.expires <= now:
        return None
    return operators.by_hash(session, row.token_hash, now)


def close(session: Session, identifier: str) -> None:
    """End it; one that has ended stays ended."""
    session.execute(delete(Login).where(Login.hash == _hash(identifier)))


def _hash(identifier: str) -> str:
    return sha256(identifier.encode())
