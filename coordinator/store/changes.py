"""What an operator may set anew while a study lives: numbers that plans carry and no site holds a study to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import StudyState
from coordinator.store import audit, memberships, study_rules
from coordinator.store.attempts import ACTIVE
from coordinator.store.studies import ONGOING
from coordinator.store.tables import Round, RoundKind, Study
from crypto.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Other values for a study's settings; None: as it is."""

    fraction: float | None = None
    rounds: int | None = None
    minimum_contributors: int | None = None
    expected_sites: int | None = None
    collect_seconds: int | None = None
    vote_seconds: int | None = None
    open_seconds: int | None = None

    def asked(self) -> dict[str, Any]:
        """What is to be set, by the setting's name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def change(session: Session, study: Study, wanted: Change, actor: str, now: float) -> None:
    """Set what is wanted, from the next plan on: an attempt under way keeps to its own.

    Raises:
        StudyState: the study is over.
        RequestInvalid: numbers that contradict one another, sites' memory, or what has happened in the study.
    """
    if study.state not in ONGOING:
        raise StudyState(
            f"The study {study.name!r} is {study.state}, and sites follow it no more. Clone it, or begin another study "
            "with a model of its rounds.",
            {"state": study.state},
        )
    after = {name: value for name, value in wanted.asked().items() if value != getattr(study, name)}
    before = {name: getattr(study, name) for name in after}
    if not after:
        return
    under_way = session.scalar(select(Round.kind).where(Round.study_id == study.id, Round.state.in_(ACTIVE)))
    faults = [*_minimum_faults(session, study, after, under_way), *_rounds_faults(study, after, under_way)]
    for name, value in after.items():
        setattr(study, name, value)
    study_rules.check(study, Layout.from_json(study.layout), faults)
    detail = {"study": str(study.id), "name": study.name, "before": before, "after": after}
    audit.append(session, now, actor, "study.changed", detail)


def _minimum_faults(
    session: Session, study: Study, after: dict[str, Any], under_way: RoundKind | None
) -> Iterator[str]:
    """Each site remembers the minimum that it joined for, and an agent that starts looks what it is now: both take no
    part in sums of fewer."""
    was, least = study.minimum_contributors, after.get("minimum_contributors", study.minimum_contributors)
    if least < was and memberships.ever(session, study.id):
        yield (
            f"minimum_contributors cannot fall from {was} to {least}: sites joined for sums of {was} or more and would "
            "refuse every plan; clone the study"
        )
    if least > was and under_way is not None:
        yield (
            "minimum_contributors cannot rise while a round is under way: an agent that starts meanwhile would refuse "
            f"its plan, which is for {was}; pause the study, and change it when the round has ended"
        )


def _rounds_faults(study: Study, after: dict[str, Any], under_way: RoundKind | None) -> Iterator[str]:
    begun = study.completed + (under_way == "training")
    if "rounds" in after and under_way == "evaluation":
        yield "rounds cannot change: the last evaluation is under way, and the study ends with it"
    elif after.get("rounds", begun) < begun:
        yield f"rounds cannot be {after['rounds']}: {begun} are completed or under way"
