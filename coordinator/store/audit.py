"""The audit log: appended in the transaction of what it tells, each row's hash covering the former's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.store.tables import Audit
from crypto.canonical import digest

GENESIS: Final = "0" * 64


class AuditBroken(Exception):
    """The chain does not hold from row `seq` on: a row was changed, removed or put in."""

    def __init__(self, seq: int, what: str) -> None:
        super().__init__(f"the audit log is broken at row {seq}: {what}; compare it with your backups")
        self.seq = seq


def append(session: Session, time: float, actor: str, action: str, detail: dict[str, Any]) -> Audit:
    """Add a row, in a transaction of `Store.run`, which come one after the other.

    `actor` is "operator:NAME", "site:ID" or "conductor"; `detail` never holds a secret.

    Raises:
        Malformed: `detail` is not JSON.
    """
    last = session.scalar(select(Audit).order_by(Audit.seq.desc()).limit(1))
    row = Audit(
        seq=last.seq + 1 if last else 1,
        time=time,
        actor=actor,
        action=action,
        detail=detail,
        previous=last.hash if last else GENESIS,
    )
    row.hash = _hash(row)
    session.add(row)
    session.flush()
    return row


def rows_after(session: Session, seq: int, limit: int = 500) -> list[Audit]:
    """Rows with a higher number than `seq`, oldest first."""
    return list(session.scalars(select(Audit).where(Audit.seq > seq).order_by(Audit.seq).limit(limit)))


def verify(session: Session) -> int:
    """How many rows there are, all in one unbroken chain. That none is missing at the end only a copy can tell.

    Raises:
        AuditBroken: naming the first row that does not fit.
    """
    number, previous = 0, GENESIS
    for row in _all(session):
        number += 1
        if row.seq != number:
            raise AuditBroken(number, f"the next row has number {row.seq}")
        if row.previous != previous:
            raise AuditBroken(number, "it does not follow the row before it")
        if row.hash != _hash(row):
            raise AuditBroken(number, "its content does not have its hash")
        previous = row.hash
    return number


def _all(session: Session) -> Iterator[Audit]:
    """Every row, oldest first, a few in memory at a time."""
    last = 0
    while rows := rows_after(session, last):
        yield from rows
        last = rows[-1].seq
        session.expunge_all()


def _hash(row: Audit) -> str:
    return digest(
        {
            "seq": row.seq,
            "time": row.time,
            "actor": row.actor,
            "action": row.action,
            "detail": row.detail,
            "previous": row.previous,
        }
    )
