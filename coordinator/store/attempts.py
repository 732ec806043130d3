"""The attempt under way: a study has one at most."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.store.tables import Round, RoundState

ACTIVE: Final[tuple[RoundState, ...]] = ("collecting", "aggregating", "opening")


def active(session: Session, study: UUID) -> Round | None:
    """The study's attempt that is neither complete nor failed."""
    return session.scalar(select(Round).where(Round.study_id == study, Round.state.in_(ACTIVE)))
