"""What a study with differential privacy promises, and what is spent of it, as its page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from coordinator.store import privacy, tables
from coordinator.store.glance import Attempt
from crypto.privacy import Privacy, assumptions


@dataclass(frozen=True, slots=True)
class Epsilons:
    """`after`: epsilon by attempt, of all sums opened so far. `spent`: the last of them; `planned`: of all rounds."""

    promise: Privacy
    after: Mapping[UUID, float]
    spent: float
    planned: float
    assumptions: Sequence[str]


def epsilons_of(study: tables.Study, attempts: Sequence[Attempt]) -> Epsilons | None:
    """None where the study promises nothing. `attempts`: all of it, oldest first."""
    promise = privacy.promise(study)
    if promise is None:
        return None
    after = privacy.epsilons(promise, attempts)
    return Epsilons(
        promise=promise,
        after=after,
        spent=max(after.values(), default=0.0),
        planned=promise.epsilon(study.rounds),
        assumptions=assumptions(study.minimum_contributors),
    )
