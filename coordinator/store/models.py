"""Models: rows here, files in the blob store; those that only members hold have no file here."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from coordinator.errors import NotFound
from coordinator.store.tables import Membership, Model, Study


@dataclass(frozen=True, slots=True)
class Origin:
    """The round that made a model, and the model that it started from."""

    study: UUID
    round: int
    parent: str


def register(
    session: Session, digest: str, size: int, layout_digest: str, recipe_digest: str, now: float, origin: Origin | None
) -> Model:
    """The row of a model; the one that is there if it was registered before.

    Its file is stored already, unless only the members of a study hold it.

    Args:
        origin: None for an uploaded first model.
    """
    row = session.get(Model, digest)
    if row is None:
        row = Model(
            digest=digest,
            size=size,
            layout_digest=layout_digest,
            recipe_digest=recipe_digest,
            created=now,
            study_id=origin.study if origin else None,
            round=origin.round if origin else None,
            parent=origin.parent if origin else None,
        )
        session.add(row)
        session.flush()
    return row


def find(session: Session, digest: str) -> Model | None:
    return session.get(Model, digest)


def held_by_members(session: Session, model: Model) -> bool:
    """Whether a round of a study made it that is released to its members only: no file of it is here."""
    return model.study_id is not None and session.get_one(Study, model.study_id).release == "members"


def readable(session: Session, digest: str) -> Model:
    """The model, if its file is here.

    Raises:
        NotFound: there is no such model, or only the members of its study hold it; the detail says where.
    """
    model = find(session, digest)
    if model is None:
        raise NotFound(f"There is no model {digest[:12]}... An operator uploads one with POST /v1/models.")
    if held_by_members(session, model):
        raise NotFound(
            f"The model {digest[:12]}... is held by the members of its study only: this coordinator never had it. On a "
            f"member's machine it is models/{model.study_id}/{digest}.safetensors in the agent's home folder.",
            {"held_by": "members", "study": str(model.study_id), "round": model.round},
        )
    return model


def may_download(session: Session, model: Model, site: UUID) -> bool:
    """Whether a site is a member of a study that made the model or begins with it."""
    member = exists().where(Membership.study_id == Study.id, Membership.site_id == site, Membership.left.is_(None))
    of_study = or_(Study.id == model.study_id, Study.first_model == model.digest)
    query = select(Study.id).where(of_study, member)
    return session.scalar(query.limit(1)) is not None
