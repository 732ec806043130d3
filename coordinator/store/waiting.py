"""What a running study waits for."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.rounds.planning import NotYet, plan_round
from coordinator.store import rounds


def waiting(session: Session, study: UUID, now: float, recent_seconds: float) -> str | None:
    """Why no attempt of a running study can be planned now, in words for its operator; None of any other study.

    Args:
        recent_seconds: as the conductor's.
    """
    view = rounds.study_view(session, study)
    planned = plan_round(view, now, recent_seconds) if view is not None else None
    return planned.reason if isinstance(planned, NotYet) else None
