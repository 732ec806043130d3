"""How a study's rounds went: for operators, sites and the page."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.store import answers, outcomes, privacy, site_evaluations, spot_checks
from coordinator.store.kept import roster_of
from coordinator.store.tables import Audit, Contribution, Metrics, Opening, Refusal, Round, Vote
from coordinator.store.tasks import contributors


def rounds(session: Session, study: UUID) -> list[dict[str, Any]]:
    """What `GET .../rounds` answers (docs/wire.md), oldest first."""
    rows = session.scalars(select(Round).where(Round.study_id == study).order_by(Round.number, Round.attempt))
    return [entry(session, row) for row in rows]


def entry(session: Session, row: Round) -> dict[str, Any]:
    """One attempt of them."""
    delivered = session.scalars(select(Contribution).where(Contribution.round_id == row.id)).all()
    whole = sorted(str(each.site_id) for each in delivered if each.completed is not None)
    metrics, roster = session.get(Metrics, row.id), roster_of(row)
    return {
        "round": row.number,
        "attempt": row.attempt,
        "kind": row.kind,
        "state": row.state,
        "reason": row.reason,
        "plan": row.plan_digest,
        "contributors": contributors(row) if row.ballot is not None else whole,
        "carried": [carried["member"]["site"] for carried in row.plan.get("carried", [])],
        "votes": session.scalar(select(func.count()).select_from(Vote).where(Vote.round_id == row.id)) or 0,
        "openings": [
            {"site": str(opening.site_id), "rejection": opening.rejection}
            for opening in session.scalars(select(Opening).where(Opening.round_id == row.id))
        ],
        "refusals": [
            answers.refusal(refusal, roster)
            for refusal in session.scalars(select(Refusal).where(Refusal.round_id == row.id))
        ],
        "model": row.model,
        "spot_checks": spot_checks.shown(session, row),
        "outcomes": outcomes.shown(session, row),
        "bytes_received": sum(each.received for each in delivered),
        "started": row.started,
        "closed": row.closed,
        "opened": row.opened,
        "ended": row.ended,
        "seconds": {"add": row.add_seconds, "open": row.open_seconds},
        "metrics": metrics.derived if metrics else None,
        "site_evaluations": site_evaluations.shown(session, row),
        "epsilon": privacy.epsilon_after(session, row),
    }


def newest_audit_rows(session: Session, number: int) -> list[Audit]:
    """The last rows of the log, newest first."""
    return list(session.scalars(select(Audit).order_by(Audit.seq.desc()).limit(number)))
