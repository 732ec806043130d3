"""Which blobs the database refers to: what a backup takes along, and what nobody may delete."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.store import models, rounds
from coordinator.store.blobs import (
    model_key,
    part_key,
    parts_prefix,
    sealed_model_key,
    server_state_key,
    study_key,
    sum_key,
    sums_prefix,
)
from coordinator.store.tables import KeyBlob, Model, Part, Round, SealedModel

Referenced = dict[str, str | None]


def all_blobs(session: Session) -> Referenced:
    """SHA-256 by key of every blob that a row refers to; None where no row knows it."""
    return {**_parts(session), **_sums(session), **_models(session), **_server_states(session), **_keys(session)}


def under_way(session: Session) -> list[str]:
    """Folders of attempts that are not swept yet: what lies there is their own to delete."""
    unswept = session.scalars(select(Round.id).where(Round.swept.is_(None)))
    return [folder for round_id in unswept for folder in (parts_prefix(round_id), sums_prefix(round_id))]


def leftovers(session: Session) -> list[str]:
    """Folders of attempts that have ended and are not swept yet: what rows still refer to there may be gone."""
    ended = session.scalars(select(Round.id).where(Round.swept.is_(None), Round.ended.is_not(None)))
    return [folder for round_id in ended for folder in rounds.leftovers(session, round_id)]


def _parts(session: Session) -> Referenced:
    rows = session.execute(select(Part.round_id, Part.site_id, Part.kind, Part.number, Part.digest))
    return {part_key(round_id, site, kind, number): digest for round_id, site, kind, number, digest in rows}


def _sums(session: Session) -> Referenced:
    """Of attempts that were added up and not ended."""
    added = select(Round).where(Round.add_seconds.is_not(None), Round.ended.is_(None))
    return {sum_key(row.id, number): None for row in session.scalars(added) for number in range(_sum_count(row))}


def _sum_count(row: Round) -> int:
    return len((row.ballot or {})["manifests"][0]["message"]["parts"])


def _models(session: Session) -> Referenced:
    rows = session.scalars(select(Model))
    return {model_key(row.digest): row.digest for row in rows if not models.held_by_members(session, row)}


def _server_states(session: Session) -> Referenced:
    """The last one of each study; those before are deleted as their rounds are swept."""
    rows = session.execute(
        select(Round.study_id, Round.server_state)
        .where(Round.kind == "training", Round.state == "complete")
        .order_by(Round.number)
    )
    last: dict[UUID, str | None] = {study: state for study, state in rows}  # noqa: C416 - rows are no pairs to mypy
    return {server_state_key(study, state): state for study, state in last.items() if state is not None}


def _keys(session: Session) -> Referenced:
    stored = session.scalars(select(KeyBlob))
    sealed = session.scalars(select(SealedModel))
    return {study_key(row.study_id, row.sha256): row.sha256 for row in stored} | {
        sealed_model_key(row.study_id, row.model, row.recipient, row.holder): row.signed["message"]["sha256"]
        for row in sealed
    }
