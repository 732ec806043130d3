"""What pages show of studies, rounds, sites and models, in a few queries each, however many rounds there were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from coordinator.store import answers
from coordinator.store.kept import roster_of
from coordinator.store.tables import (
    Contribution,
    Membership,
    Metrics,
    Model,
    Opening,
    Outcome,
    Refusal,
    Round,
    RoundKind,
    RoundState,
    Site,
    SpotCheck,
    Study,
    Vote,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt at a round. `measures` are those of its base model, None until it is complete; `received` is in bytes,
    `contributors` the sites whose contributions are whole, by name."""

    id: UUID
    study: UUID
    number: int
    attempt: int
    kind: RoundKind
    state: RoundState
    reason: str | None
    model: str | None
    base_model: str
    started: float
    closed: float | None
    opened: float | None
    ended: float | None
    add_seconds: float | None
    open_seconds: float | None
    contributors: Sequence[UUID]
    received: int
    measures: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """As people call it."""
        again = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return f"{self.number}{again}{' (evaluation)' if self.kind == 'evaluation' else ''}"

    @property
    def active(self) -> bool:
        return self.ended is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """When a site took each step of an attempt, in Unix seconds; None: not yet, or not asked to."""

    site: UUID
    expected: bool
    received: int
    contributed: float | None
    voted: float | None
    opened: float | None
    rejection: str | None
    derived: float | None
    checked: float | None


_COLUMNS = (
    Round.id,
    Round.study_id.label("study"),
    Round.number,
    Round.attempt,
    Round.kind,
    Round.state,
    Round.reason,
    Round.model,
    Round.base_model,
    Round.started,
    Round.closed,
    Round.opened,
    Round.ended,
    Round.add_seconds,
    Round.open_seconds,
)  # not the plan, the roster and the ballot, which are long


def attempts(session: Session, study: UUID) -> list[Attempt]:
    """All of a study, oldest first."""
    rows = session.execute(select(*_COLUMNS).where(Round.study_id == study).order_by(Round.number, Round.attempt)).all()
    contributors, received = _delivered(session, study)
    measured = _measures(session, study)
    return [
        Attempt(
            **row._mapping,
            contributors=contributors[row.id],
            received=received[row.id],
            measures=measured.get(row.id),
        )
        for row in rows
    ]


def _delivered(session: Session, study: UUID) -> tuple[Mapping[UUID, list[UUID]], Mapping[UUID, int]]:
    query = select(Contribution.round_id, Contribution.site_id, Contribution.completed, Contribution.received)
    whole, received = defaultdict[UUID, list[UUID]](list), defaultdict[UUID, int](int)
    query = query.join(Round).join(Site, Contribution.site_id == Site.id).where(Round.study_id == study)
    for round_id, site, completed, size in session.execute(query.order_by(Site.name)):
        received[round_id] += size
        if completed is not None:
            whole[round_id].append(site)
    return whole, received


def _measures(session: Session, study: UUID) -> dict[UUID, dict[str, Any]]:
    query = select(Metrics.round_id, Metrics.derived).join(Round).where(Round.study_id == study)
    return dict(session.execute(query).all())


@dataclass(frozen=True, slots=True)
class Dispute:
    """A round whose model some sites' own computations contradict: by spot checks, or because they derived another."""

    number: int
    attempt: int
    mismatches: int
    strays: int


def disputes(session: Session, study: UUID) -> list[Dispute]:
    """Of the whole study, newest first: whoever steers it should not have to open each round to find one."""
    said = SpotCheck.signed["message"]["result"].as_string()
    mismatches = _counted(session, study, SpotCheck, said == "mismatch")
    derived = Outcome.signed["message"]["model"].as_string()
    strays = _counted(session, study, Outcome, derived != Round.model)
    places = sorted(mismatches.keys() | strays.keys(), reverse=True)
    return [Dispute(*place, mismatches.get(place, 0), strays.get(place, 0)) for place in places]


def _counted(
    session: Session, study: UUID, table: type[SpotCheck | Outcome], condition: ColumnElement[bool]
) -> dict[tuple[int, int], int]:
    query = select(Round.number, Round.attempt, func.count()).join(table, table.round_id == Round.id)
    rows = session.execute(query.where(Round.study_id == study, condition).group_by(Round.number, Round.attempt))
    return {(number, attempt): count for number, attempt, count in rows}


def phases(session: Session, row: Round) -> list[Phases]:
    """Of every site on the attempt's roster, by name."""
    contributions = {
        each.site_id: each for each in session.scalars(select(Contribution).where(Contribution.round_id == row.id))
    }
    votes, checks, outcomes = (_received(session, row.id, table) for table in (Vote, SpotCheck, Outcome))
    openings = {each.site_id: each for each in session.scalars(select(Opening).where(Opening.round_id == row.id))}
    found = []
    for member in sorted(row.roster["members"], key=lambda member: str(member["name"])):
        site = UUID(member["site"])
        contribution, opening = contributions.get(site), openings.get(site)
        found.append(
            Phases(
                site=site,
                expected=str(site) in row.plan["expected"],
                received=contribution.received if contribution else 0,
                contributed=contribution.completed if contribution else None,
                voted=votes.get(site),
                opened=opening.received if opening else None,
                rejection=opening.rejection if opening else None,
                derived=outcomes.get(site),
                checked=checks.get(site),
            )
        )
    return found


def _received(session: Session, round_id: UUID, table: type[Vote | SpotCheck | Outcome]) -> dict[UUID, float]:
    rows = session.execute(select(table.site_id, table.received).where(table.round_id == round_id))
    return dict(rows.all())


def site_names(session: Session) -> dict[UUID, str]:
    return dict(session.execute(select(Site.id, Site.name)).all())


def studies_of_sites(session: Session) -> Mapping[UUID, list[Study]]:
    """By site, the studies that it is in, by name."""
    query = select(Membership.site_id, Study).join(Study, Membership.study_id == Study.id)
    found = defaultdict[UUID, list[Study]](list)
    for site, study in session.execute(query.where(Membership.left.is_(None)).order_by(Study.name)):
        found[site].append(study)
    return found


def models(session: Session, before: float | None, limit: int) -> list[tuple[Model, Study | None]]:
    """Models with the studies that made them, newest first; those older than `before` where it is given."""
    query = select(Model, Study).outerjoin(Study, Model.study_id == Study.id)
    query = query.order_by(Model.created.desc(), Model.digest).limit(limit)
    rows = session.execute(query if before is None else query.where(Model.created < before))
    return [(model, study) for model, study in rows]


def measured(session: Session, digest: str) -> Attempt | None:
    """The newest attempt that measured a model, as the base it started from."""
    query = select(Round.study_id, Round.id).join(Metrics, Metrics.round_id == Round.id)
    return _one(session, query.where(Round.base_model == digest).order_by(Round.ended.desc()).limit(1))


def made(session: Session, model: Model) -> Attempt | None:
    """The attempt that made a model; None of one that was uploaded."""
    query = select(Round.study_id, Round.id).where(Round.study_id == model.study_id, Round.number == model.round)
    return _one(session, query.where(Round.state == "complete", Round.model == model.digest).limit(1))


def _one(session: Session, query: Select[UUID, UUID]) -> Attempt | None:
    found = session.execute(query).first()
    return next((each for each in attempts(session, found[0]) if each.id == found[1]), None) if found else None


def begun_with(session: Session, digest: str) -> list[Study]:
    """Studies whose first model it is, oldest first."""
    return list(session.scalars(select(Study).where(Study.first_model == digest).order_by(Study.created)))


def measures_of_models(session: Session, digests: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """By model, the measures of it as far as it was a round's base."""
    query = select(Round.base_model, Metrics.derived).join(Metrics, Metrics.round_id == Round.id)
    rows = session.execute(query.where(Round.base_model.in_(digests)).order_by(Round.ended))
    return dict(rows.all())


def refusals(session: Session, row: Round) -> list[dict[str, str]]:
    """What sites of an attempt said no to, and why, in words."""
    roster = roster_of(row)
    rows = session.scalars(select(Refusal).where(Refusal.round_id == row.id).order_by(Refusal.received))
    return [answers.refusal(each, roster) for each in rows]


def clipped(session: Session, row: Round) -> Sequence[int] | None:
    """How many values of each tensor were cut off over all contributors; None while the round is not complete."""
    metrics = session.get(Metrics, row.id)
    return metrics.counts.get("clipped") if metrics else None
