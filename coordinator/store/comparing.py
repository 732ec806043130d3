"""Studies side by side: the settings in which they differ, and how their rounds went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.metrics import at
from coordinator.store.tables import Contribution, Metrics, Round, RoundKind, Study, StudyState

_SETTINGS: Final = (
    "scheme",
    "release",
    "weighting",
    "rounds",
    "fraction",
    "minimum_contributors",
    "expected_sites",
    "k_max",
    "n_max",
    "collect_seconds",
    "vote_seconds",
    "open_seconds",
    "layout_digest",
    "first_model",
)


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the studies. `completed` counts training rounds."""

    id: UUID
    name: str
    state: StudyState
    completed: int


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """A completed round, apart from attempts that failed before.

    Attributes:
        loss: pooled, of the round's base model, in nats a case; None where the counts do not tell.
        macro_auc: likewise, with the ends of its 95 % interval.
        seconds: from its plan to its model.
        received: bytes that its contributors sent.
    """

    round: int
    kind: RoundKind
    contributors: int
    loss: float | None
    macro_auc: float | None
    macro_auc_interval: list[float] | None
    seconds: float
    received: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """All lists are in the order of `studies`.

    Attributes:
        settings: those that are not alike in all, "recipe.KEY.KEY" among them; None where a study has none.
        rounds: the first completed round of each, the second, ...; None of a study that has fewer.
    """

    studies: list[Compared]
    settings: dict[str, list[Any]]
    rounds: list[list[RoundFigures | None]]


def compare(session: Session, studies: Sequence[Study]) -> Comparison:
    """What tells these studies apart."""
    settings = [_settings(study) for study in studies]
    names = list(dict.fromkeys(name for each in settings for name in each))
    by_name = {name: [each.get(name) for each in settings] for name in names}
    return Comparison(
        [Compared(study.id, study.name, study.state, study.completed) for study in studies],
        {name: values for name, values in by_name.items() if any(value != values[0] for value in values)},
        [list(row) for row in zip_longest(*(_rounds(session, study) for study in studies))],
    )


def _settings(study: Study) -> dict[str, Any]:
    return {name: getattr(study, name) for name in _SETTINGS} | dict(_leaves("recipe", study.recipe))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{name}.{key}", inner)


def _rounds(session: Session, study: Study) -> list[RoundFigures]:
    """In two queries, without the rosters and ballots, which are large."""
    mine = Round.study_id == study.id, Round.state == "complete"
    sent = (
        select(Round.id, func.count(Contribution.completed), func.sum(Contribution.received))
        .join(Contribution, Contribution.round_id == Round.id)
        .where(*mine)
        .group_by(Round.id)
    )
    by_round = {identifier: (int(number), int(octets)) for identifier, number, octets in session.execute(sent)}
    rows = session.execute(
        select(Round.id, Round.number, Round.kind, Round.started, Round.ended, Metrics.derived)
        .outerjoin(Metrics, Metrics.round_id == Round.id)
        .where(*mine)
        .order_by(Round.number)
    )
    found = []
    for identifier, number, kind, started, ended, derived in rows:
        contributors, received = by_round.get(identifier, (0, 0))
        (loss, _), (auc, ends) = at(derived, "loss"), at(derived, "macro_auc")
        seconds = (ended or started) - started
        found.append(RoundFigures(number, kind, contributors, loss, auc, ends, seconds, received))
    return found
