"""Which attempt a call is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path
from sqlalchemy.orm import Session

from coordinator.store import contributions
from coordinator.store.tables import Round

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


@dataclass(frozen=True, slots=True)
class Here:
    """An attempt by its address."""

    study: UUID
    number: int
    attempt: int

    def row(self, session: Session) -> Round:
        """Raises NotFound."""
        return contributions.attempt(session, self.study, self.number, self.attempt)


async def _here(study: UUID, round: Number, attempt: Number) -> Here:  # noqa: A002 - the path's word
    return Here(study, round, attempt)


ThisAttempt = Annotated[Here, Depends(_here)]
