"""Operators and auditors, known by random tokens of which only the hash is kept."""

from __future__ import annotations

import secrets
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import NameTaken, NotFound
from coordinator.store import audit
from coordinator.store.tables import Operator, Role
from crypto.canonical import sha256

TOKEN_PREFIX: Final = "pleura-operator-"  # noqa: S105 - names the kind of token, so that a leaked one is recognised
_TOKEN_BYTES: Final = 32


def add(session: Session, name: str, role: Role, actor: str, now: float) -> str:
    """A new operator's token, in clear for this once.

    Raises:
        NameTaken: there is such an operator.
    """
    if session.get(Operator, name) is not None:
        raise NameTaken(f"There is an operator {name!r} already. Choose another name, or revoke that one first.")
    token = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    session.add(Operator(name=name, token_hash=_hash(token), role=role, created=now, expires=None, revoked=None))
    audit.append(session, now, actor, "operator.added", {"name": name, "role": role})
    return token


def revoke(session: Session, name: str, actor: str, now: float) -> None:
    """The operator's token is good for nothing from now on.

    Raises:
        NotFound: no such operator.
    """
    row = session.get(Operator, name)
    if row is None:
        raise NotFound(f"There is no operator {name!r}.")
    row.revoked = now
    audit.append(session, now, actor, "operator.revoked", {"name": name})


def find(session: Session, token: str, now: float) -> Operator | None:
    """Whose token it is, unless it was revoked or has expired."""
    row = session.scalar(select(Operator).where(Operator.token_hash == _hash(token)))
    if row is None or row.revoked is not None or (row.expires is not None and row.expires <= now):
        return None
    return row


def by_name(session: Session, name: str, now: float) -> Operator | None:
    """The operator, unless revoked or expired since it logged in."""
    row = session.get(Operator, name)
    if row is None or row.revoked is not None or (row.expires is not None and row.expires <= now):
        return None
    return row


def _hash(token: str) -> str:
    """Plain SHA-256: bcrypt and its like slow down guessing of what people choose, and 256 random bits are not guessed.

    They would only cost a tenth of a second on every request.
    """
    return sha256(token.encode())
