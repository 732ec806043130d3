"""Operators and auditors, known by random tokens of which only the hash is kept."""

from __future__ import annotations

import re
import secrets
from typing import Final, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import NameTaken, NotFound, RequestInvalid
from coordinator.store import audit
from coordinator.store.tables import Operator, Role
from crypto.canonical import sha256

TOKEN_PREFIX: Final = "pleura-operator-"  # noqa: S105 - names the kind of token, so that a leaked one is recognised
NAME: Final = r"^\w([\w.@+ -]{0,78}[\w])?$"  # nobody is called "anna (on the server)", as the log names commands
DAYS: Final = 365.0  # a token's life where nobody says otherwise
LONGEST_DAYS: Final = 3650.0
DAY: Final = 86_400.0  # seconds
_TOKEN_BYTES: Final = 32

Standing = Literal["active", "expired", "revoked"]


def add(session: Session, name: str, role: Role, actor: str, now: float, expires: float | None = None) -> str:
    """A new operator's token, in clear for this once. Without `expires` (Unix seconds) it is good until it is revoked.

    The name of a revoked operator may be given again, to anybody: the log tells by its order who had it when.

    Raises:
        NameTaken: an operator who was not revoked has it.
        RequestInvalid: it is not one of letters, digits, spaces, and . @ + - _.
    """
    if re.fullmatch(NAME, name) is None:
        raise RequestInvalid(
            f"{name!r} cannot be an operator's name: letters, digits, spaces and . @ + - _ can, 80 of them."
        )
    row = session.get(Operator, name)
    if row is None:
        row = Operator(name=name)
        session.add(row)
    elif row.revoked is None:
        raise NameTaken(
            f"There is an operator {name!r} already. Choose another name, renew that one's token, or revoke it first."
        )
    token = _new_token()
    row.token_hash, row.role, row.created, row.expires, row.revoked = _hash(token), role, now, expires, None
    audit.append(session, now, actor, "operator.added", {"name": name, "role": role, "expires": expires})
    return token


def renew(session: Session, name: str, actor: str, now: float, expires: float | None = None) -> str:
    """A new token in place of the operator's former one, which is good for nothing from now on, as are its logins.

    Raises:
        NotFound: no such operator, or a revoked one.
    """
    row = _named(session, name)
    if row.revoked is not None:
        raise NotFound(f"The operator {name!r} was revoked. Add them again, with the role that they are to have.")
    token = _new_token()
    row.token_hash, row.expires = _hash(token), expires
    audit.append(session, now, actor, "operator.renewed", {"name": name, "expires": expires})
    return token


def revoke(session: Session, name: str, actor: str, now: float) -> None:
    """The operator's token, and every login with it, is good for nothing from now on. Again is harmless.

    Raises:
        NotFound: no such operator.
    """
    row = _named(session, name)
    if row.revoked is None:
        row.revoked = now
        audit.append(session, now, actor, "operator.revoked", {"name": name})


def everyone(session: Session) -> list[Operator]:
    """All operators by name, revoked and expired ones among them; `standing` tells them apart."""
    return list(session.scalars(select(Operator).order_by(Operator.name)))


def standing(row: Operator, now: float) -> Standing:
    """Whether the operator's token is good at this moment, or why not."""
    if row.revoked is not None:
        return "revoked"
    return "expired" if row.expires is not None and row.expires <= now else "active"


def find(session: Session, token: str, now: float) -> Operator | None:
    """Whose token it is, unless it was revoked or has expired."""
    return by_hash(session, _hash(token), now)


def by_hash(session: Session, token_hash: str, now: float) -> Operator | None:
    """Whose token has this hash, unless it was revoked or has expired.

    A login to the page remembers the hash rather than the name: it ends with the token that opened it, also where the
    operator was given another one or the name went to somebody else.
    """
    row = session.scalar(select(Operator).where(Operator.token_hash == token_hash))
    return row if row is not None and standing(row, now) == "active" else None


def _named(session: Session, name: str) -> Operator:
    row = session.get(Operator, name)
    if row is None:
        raise NotFound(f"There is no operator {name!r}.")
    return row


def _new_token() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def _hash(token: str) -> str:
    """Plain SHA-256: bcrypt and its like slow down guessing of what people choose, and 256 random bits are not guessed.

    They would only cost a tenth of a second on every request.
    """
    return sha256(token.encode())
