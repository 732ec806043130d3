"""What a site has to do now (docs/wire.md, Task), and a cursor that changes when the answer does."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.store import attempts, epochs, memberships, sealed_models
from coordinator.store.tables import Contribution, Opening, Outcome, Round, Study, Vote
from crypto.checks import takes_votes


def marks(session: Session, study: Study, site: UUID, now: float, recent_seconds: float) -> dict[str, Any]:
    """The task with a digest, or a number, in place of each message: what a waiting agent's task is watched by."""
    active = attempts.active(session, study.id)
    return {
        "study_state": study.state,
        "phase": active.state if active else "waiting",
        "epoch": epochs.summary(session, study, now, recent_seconds),
        "plan": active.plan_digest if active else None,
        "roster": memberships.ids(session, study.id),  # who joins is news: approve it
        **(_of_attempt(session, active, site) if active else _NOTHING),
        "model_wanted": sealed_models.wanted(session, study),
        "model_offers": sealed_models.offers(session, study, site),
        "last": _last(session, study.id),
    }


def cursor(task_marks: dict[str, Any]) -> str:
    """A name for this state of things."""
    return hashlib.sha256(json.dumps(task_marks, sort_keys=True).encode()).hexdigest()[:32]


def task(session: Session, study: Study, site: UUID, now: float, recent_seconds: float) -> dict[str, Any]:
    """The whole task."""
    light, active = marks(session, study, site, now, recent_seconds), attempts.active(session, study.id)
    return {
        **light,
        "cursor": cursor(light),
        "epoch": epochs.signed(session, study, light["epoch"], site),
        "plan": active.plan if active else None,
        "roster": active.roster if active else None,
    }


_NOTHING: dict[str, Any] = {
    "contributed": False,
    "ballot": None,
    "voted": False,
    "votes": 0,
    "openers": [],
    "opened": False,
    "answers": 0,
    "derived": False,
}


def _of_attempt(session: Session, row: Round, site: UUID) -> dict[str, Any]:
    contribution = session.get(Contribution, (row.id, site))
    return {
        "contributed": contribution is not None and contribution.completed is not None,
        "ballot": row.ballot_digest if row.opened is not None else None,
        "voted": session.get(Vote, (row.id, site)) is not None,
        "votes": session.scalar(select(func.count()).select_from(Vote).where(Vote.round_id == row.id)) or 0,
        "openers": _openers(row),
        "opened": session.get(Opening, (row.id, site)) is not None,
        "answers": _answers(session, row),
        "derived": session.get(Outcome, (row.id, site)) is not None,
    }


def _answers(session: Session, row: Round) -> int:
    """How many members' answers are in, where members combine them themselves; news to nobody elsewhere."""
    if row.plan["release"] != "members":
        return 0
    return session.scalar(select(func.count()).select_from(Opening).where(Opening.round_id == row.id)) or 0


def _openers(row: Round) -> list[str]:
    """Who is asked to answer: one opener after another, or all members at once where it takes several or all open."""
    plan = row.plan  # read as it lies there: this is asked on every look of every waiting agent
    if row.opened is None or (takes_votes(plan["scheme"]) and plan["release"] == "open"):
        return [entry["site"] for entry in row.openers]
    return [member["site"] for member in row.roster["members"]]


def _last(session: Session, study: UUID) -> dict[str, Any] | None:
    """The newest ended attempt: by it a site commits or drops its residual."""
    row = session.scalar(
        select(Round)
        .where(Round.study_id == study, Round.state.in_(("complete", "failed")))
        .order_by(Round.number.desc(), Round.attempt.desc())
        .limit(1)
    )
    if row is None:
        return None
    return {
        "round": row.number,
        "attempt": row.attempt,
        "state": row.state,
        "reason": row.reason,
        "contributors": contributors(row),
        "model": row.model or row.base_model,
    }


def contributors(row: Round) -> list[str]:
    """Sites in the attempt's ballot, as text."""
    return [signed["message"]["site"] for signed in (row.ballot or {"manifests": []})["manifests"]]
