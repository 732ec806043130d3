"""Leases on rounds: which conductor is at work on one, until when. Lost leases are noticed at the next write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, CursorResult, and_, or_, select, update
from sqlalchemy.orm import Session

from coordinator.store.tables import Round

_BACKOFF: Final = 1.0  # seconds after the first failed try, doubled with each
_LONGEST_BACKOFF: Final = 60.0


class LeaseLost(Exception):
    """Another conductor has taken the round over; what this one meant to write is not written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One conductor's hold on one round. `attempts` counts the tries since the last that ended well."""

    round_id: UUID
    owner: str
    token: UUID
    attempts: int


def take(session: Session, round_id: UUID, owner: str, now: float, seconds: float) -> Lease | None:
    """The lease on a round, or None: another holds it, or it is not due yet after an error."""
    free = or_(Round.lease_expires.is_(None), Round.lease_expires <= now)
    found = session.execute(
        select(Round.lease_token, Round.lease_attempts).where(Round.id == round_id, Round.due <= now, free)
    ).one_or_none()
    if found is None:
        return None
    lease = Lease(round_id, owner, uuid4(), found.lease_attempts + 1)
    same = Round.lease_token.is_(None) if found.lease_token is None else Round.lease_token == found.lease_token
    changed = _update(
        session,
        and_(Round.id == round_id, same),
        lease_owner=owner,
        lease_token=lease.token,
        lease_expires=now + seconds,
        lease_attempts=lease.attempts,
    )
    return lease if changed == 1 else None


def renew(session: Session, lease: Lease, now: float, seconds: float) -> None:
    """Hold on for another `seconds`.

    Raises:
        LeaseLost: another has it.
    """
    _exactly_one(session, lease, lease_expires=now + seconds)


def check(session: Session, lease: Lease) -> None:
    """Raise unless the lease is still ours; called in each transaction that advances the round.

    Raises:
        LeaseLost: another has it.
    """
    _exactly_one(session, lease, lease_owner=lease.owner)


def release(session: Session, lease: Lease) -> None:
    """Let go after work that ended well.

    Raises:
        LeaseLost: another has it.
    """
    _exactly_one(session, lease, lease_owner=None, lease_token=None, lease_expires=None, lease_attempts=0, due=0.0)


def release_after_error(session: Session, lease: Lease, now: float) -> None:
    """Let go, and let the round rest for a while that grows with each try.

    Raises:
        LeaseLost: another has it.
    """
    rest = min(_BACKOFF * 2 ** (lease.attempts - 1), _LONGEST_BACKOFF)
    _exactly_one(session, lease, lease_owner=None, lease_token=None, lease_expires=None, due=now + rest)


def _exactly_one(session: Session, lease: Lease, **values: Any) -> None:
    if _update(session, and_(Round.id == lease.round_id, Round.lease_token == lease.token), **values) != 1:
        raise LeaseLost(f"the lease on round {lease.round_id} is another conductor's now")


def _update(session: Session, which: ColumnElement[bool], **values: Any) -> int:
    result = session.execute(update(Round).where(which).values(**values).execution_options(synchronize_session="fetch"))
    return cast("CursorResult[Any]", result).rowcount
