"""What the opened sums of a study with differential privacy may have given away (docs/decisions/0019)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from uuid import UUID

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from coordinator.store.tables import Round, RoundKind, Study
from coordinator.terms import Terms
from crypto.privacy import Privacy


class Attempted(Protocol):
    """An attempt at a round. `opened`: when its ballot was shown, from which moment sites open its sum."""

    @property
    def id(self) -> UUID: ...
    @property
    def kind(self) -> RoundKind: ...
    @property
    def opened(self) -> float | None: ...


def promise(study: Study) -> Privacy | None:
    """What the study's recipe promises; None where it promises nothing."""
    return Terms.of(study.recipe).privacy


def epsilon_after(session: Session, row: Round) -> float | None:
    """Epsilon of all sums of the study up to that attempt's; None without privacy, or if it opened no update."""
    promised = promise(session.get_one(Study, row.study_id))
    if promised is None or not _opens(row):
        return None
    earlier = select(func.count()).where(
        Round.study_id == row.study_id,
        Round.kind == "training",
        Round.opened.is_not(None),
        tuple_(Round.number, Round.attempt) <= tuple_(row.number, row.attempt),
    )
    return promised.epsilon(session.scalar(earlier) or 0)


def epsilons(promised: Privacy, attempts: Iterable[Attempted]) -> dict[UUID, float]:
    """The same for all attempts of a study, oldest first, that opened an update."""
    opened = [attempt.id for attempt in attempts if _opens(attempt)]
    return {attempt: promised.epsilon(sums) for sums, attempt in enumerate(opened, 1)}


def _opens(attempt: Attempted) -> bool:
    """Whether an update could be opened. That it was not, in the end, nobody can tell from here: sites may have
    answered each other."""
    return attempt.kind == "training" and attempt.opened is not None
