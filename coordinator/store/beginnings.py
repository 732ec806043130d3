"""What a study begins with: an uploaded model, or one that a round of another study made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import NotFound
from coordinator.store import models
from coordinator.store.tables import Model, Round, Study


@dataclass(frozen=True, slots=True)
class Beginning:
    """The model's digest; study and round are those that made it, None for an uploaded one."""

    model: str
    study: UUID | None = None
    round: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For the audit log."""
        made = {"study": str(self.study), "round": self.round}
        return {"model": self.model} | ({"from": made} if self.study else {})


def uploaded(session: Session, digest: str) -> Beginning:
    """Raises NotFound: there is no such model, or no file of it is here."""
    return Beginning(models.readable(session, digest).digest)


def of_round(session: Session, study: Study, number: int | None) -> Beginning:
    """The model that a study's round made; without a number, its newest.

    Raises:
        NotFound: that round made none, or only the study's members hold it.
    """
    model = _made(session, study, number)
    if model is None:
        what = "no round" if number is None else f"no training round {number} that is complete"
        raise NotFound(
            f"The study {study.name!r} has {what}, so there is no model to begin with. Its rounds are listed by "
            "`pleura-coordinator study show`."
        )
    if models.held_by_members(session, model):
        raise NotFound(
            f"The models of the study {study.name!r} are released to its members only: this coordinator never had "
            f"{model.digest[:12]}.... A member that has the file writes a first model from it with "
            "`pleura-participant model new RECIPE --from FILE`, and hands that in."
        )
    return Beginning(model.digest, study.id, model.round)


def _made(session: Session, study: Study, number: int | None) -> Model | None:
    if number is None:
        return session.get(Model, study.current_model) if study.completed else None
    query = select(Round.model).where(Round.study_id == study.id, Round.number == number, Round.kind == "training")
    digest = session.scalar(query.where(Round.state == "complete"))
    return session.get(Model, digest) if digest else None
