"""Studies made of studies: a clone begins where its study began, a rollback with a model that a round of it made.

Why a rollback makes another study: docs/decisions/0016.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.errors import StudyState
from coordinator.store import audit, beginnings, models, studies
from coordinator.store.beginnings import Beginning
from coordinator.store.changes import Change
from coordinator.store.tables import Round, Study
from crypto.layout import Layout

_SAME: Final = (
    "scheme",
    "release",
    "weighting",
    "rounds",
    "fraction",
    "minimum_contributors",
    "expected_sites",
    "k_max",
    "collect_seconds",
    "vote_seconds",
    "open_seconds",
)
_ROOM: Final = 60  # characters of a study's name in that of another; names have up to 80


def clone(session: Session, study: Study, name: str, wanted: Change, actor: str, now: float) -> Study:
    """A draft with the same first model and settings, apart from what is wanted otherwise.

    Raises:
        NameTaken: another study has the name.
        RequestInvalid: numbers that contradict one another.
    """
    first = models.readable(session, study.first_model)
    return _copy(session, study, name, Beginning(first.digest, first.study_id, first.round), wanted, actor, now)


def roll_back(
    session: Session, study: Study, number: int, name: str | None, wanted: Change, actor: str, now: float
) -> Study:
    """A draft that goes on from the model of a training round, for as many rounds as followed it; the study itself is
    stopped, if it is not over, and says where it goes on.

    Args:
        name: of the draft; None: the study's and the round's number.

    Raises:
        StudyState: the study is running.
        NotFound: that round made no model, or only the study's members hold it.
        NameTaken, RequestInvalid: as of `clone`.
    """
    if study.state == "running":
        raise StudyState(
            f"The study {study.name!r} is running. Pause it first: rolled back, it loses an attempt that is under way.",
            {"state": study.state},
        )
    found = beginnings.of_round(session, study, number)
    left = Change(rounds=max(1, study.rounds - _completed(session, study, number)))
    wished = Change(**left.asked() | wanted.asked())
    made = _copy(session, study, name or f"{study.name[:_ROOM]}-from-{number}", found, wished, actor, now)
    if study.state in studies.ONGOING:
        studies.move(session, study, "stop", actor, now)
        study.reason = f"rolled back: it goes on from the model of round {number} as {made.name!r}"
    detail = {"study": str(study.id), "name": study.name, "round": number, "model": found.model, "to": str(made.id)}
    audit.append(session, now, actor, "study.rolled-back", detail)
    return made


def _copy(
    session: Session, study: Study, name: str, beginning: Beginning, wanted: Change, actor: str, now: float
) -> Study:
    same = {setting: getattr(study, setting) for setting in _SAME}
    wishes = studies.Wishes(**same | wanted.asked(), name=name, model=beginning.model, beginning=beginning)
    return studies.create(session, wishes, Layout.from_json(study.layout), study.recipe, actor, now)


def _completed(session: Session, study: Study, number: int) -> int:
    """Training rounds that made a model, up to that one."""
    query = select(func.count()).select_from(Round).where(Round.study_id == study.id, Round.number <= number)
    return session.scalar(query.where(Round.kind == "training", Round.state == "complete")) or 0
