"""What /metrics tells of the database: how many of what, and since when. Nothing of what the sites computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from coordinator.rounds.phases import Times
from coordinator.store.tables import Round, RoundState, Site, SiteState, Study, StudyState


@dataclass(frozen=True, slots=True)
class Running:
    """A running study: when its last round was completed (Unix seconds; before the first, when it was created), and how
    many attempts have failed since."""

    name: str
    completed: float
    failures: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """Counts by state, all states there; running studies; and when each active site was last seen, by name."""

    rounds: dict[str, int]
    studies: dict[str, int]
    sites: dict[str, int]
    running: list[Running]
    seen: dict[str, float]


def read(session: Session) -> Numbers:
    active = session.execute(select(Site.name, Site.last_seen).where(Site.state == "active").order_by(Site.name))
    return Numbers(
        rounds=_counted(session, Round.state, RoundState),
        studies=_counted(session, Study.state, StudyState),
        sites=_counted(session, Site.state, SiteState),
        running=[_running(session, study) for study in session.scalars(select(Study).where(Study.state == "running"))],
        seen={row.name: row.last_seen for row in active},
    )


def times(session: Session, round_id: UUID) -> Times:
    row = session.get_one(Round, round_id)
    asked = tuple(opener["asked"] for opener in row.openers)
    return Times(row.started, row.closed, row.opened, asked, row.ended, row.state == "complete")


def _counted(session: Session, column: InstrumentedAttribute[Any], states: Any) -> dict[str, int]:
    found: dict[str, int] = dict(session.execute(select(column, func.count()).group_by(column)).all())
    return {state: found.get(state, 0) for state in states.__args__}


def _running(session: Session, study: Study) -> Running:
    mine = Round.study_id == study.id
    completed = session.scalar(select(func.max(Round.ended)).where(mine, Round.state == "complete"))
    failed = select(func.count()).where(mine, Round.state == "failed", Round.ended > (completed or 0.0))
    return Running(study.name, completed or study.created, session.scalar(failed) or 0)
