"""What the conductor reads and writes about rounds: views for the pure functions, and one transition a function.

Every transition checks the lease, and the audit row is written with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from coordinator.rounds import states
from coordinator.rounds.planning import KeyEpoch, LastAttempt, Settings, StudyView
from coordinator.rounds.work import Revealed, Work
from coordinator.store import audit, carrying, epochs, leases, memberships, models, outcomes, sealed_models, spot_checks
from coordinator.store.answers import refusal
from coordinator.store.attempts import ACTIVE
from coordinator.store.blobs import parts_prefix, sealed_models_prefix, server_state_key, site_parts_prefix, sums_prefix
from coordinator.store.kept import ballot_of, plan_of, roster_of
from coordinator.store.leases import Lease
from coordinator.store.tables import (
    Contribution,
    Metrics,
    Opening,
    Part,
    Refusal,
    Round,
    RoundState,
    Study,
    Vote,
)
from coordinator.terms import Terms
from crypto.layout import Layout
from crypto.manifest import Answer, Ballot
from crypto.outcome import Outcome
from crypto.plan import Plan, Roster

ACTOR: Final = "conductor"
_WRONG: Final = (
    "not the answer that the others determine: a fault at this site, or a contributor that sealed it another share"
)
LOSSES: Final = 3  # rounds lost one after another, each after its ballot was shown, before the study is paused


class WrongState(Exception):
    """A transition from a state that the round is not in: a defect of ours, nothing was written."""


def unfinished(session: Session, now: float) -> list[UUID]:
    """Attempts that are active, or ended and not yet swept, and that do not rest after an error."""
    query = select(Round.id).where(Round.swept.is_(None), Round.due <= now).order_by(Round.started)
    return list(session.scalars(query))


def to_plan(session: Session) -> list[UUID]:
    """Running studies without an active attempt."""
    active = exists().where(Round.study_id == Study.id, Round.state.in_(ACTIVE))
    return list(session.scalars(select(Study.id).where(Study.state == "running", ~active).order_by(Study.created)))


def view(session: Session, round_id: UUID) -> states.View:
    """An attempt as `rounds.steps.next_step` takes it."""
    row = session.get_one(Round, round_id)
    stopped = session.get_one(Study, row.study_id).state == "stopped"
    plan, roster = plan_of(row), roster_of(row)
    return states.View(row.id, plan, roster, stopped, _state(session, row))


def study_view(session: Session, study_id: UUID) -> StudyView | None:
    """A study as `rounds.planning.plan_round` takes it; None if it is not running or has an active attempt."""
    if study_id not in to_plan(session):
        return None
    study = session.get_one(Study, study_id)
    leavers = carrying.leavers(session, study)
    return StudyView(
        id=study.id,
        settings=_settings(study),
        completed=study.completed,
        model=study.current_model,
        bounds=tuple(study.bounds),
        last=_last(session, study_id),
        candidates=tuple(memberships.candidates(session, study_id, [leaver.member.site for leaver in leavers])),
        epoch=_epoch(session, study_id),
        losses=_losses(session, study_id),
        leavers=tuple(leavers),
        ever=memberships.ever(session, study.id) if leavers else 0,
    )


def create(session: Session, plan: Plan, roster: Roster, now: float) -> UUID:
    """Store a planned attempt; the table refuses a second active one of a study."""
    carrying.drop_others(session, session.get_one(Study, plan.study), plan, roster, ACTOR, now)
    row = Round(
        id=uuid4(),
        study_id=plan.study,
        number=plan.round,
        attempt=plan.attempt,
        kind=plan.kind,
        plan=plan.to_json(),
        plan_digest=plan.digest,
        roster=roster.to_json(),
        base_model=plan.base_model,
        started=now,
    )
    session.add(row)
    session.flush()
    carried = {"carried": [str(each.member.site) for each in plan.carried]} if plan.carried else {}
    _tell(session, row, now, "round.planned", kind=plan.kind, plan=plan.digest, roster=len(roster.members), **carried)
    return row.id


def close(session: Session, lease: Lease, contributors: Sequence[UUID], now: float) -> None:
    """Freeze the set: the ballot is made, and nobody sees it before the sums are there."""
    row = _held(session, lease, "collecting")
    rows = session.scalars(
        select(Contribution)
        .where(Contribution.round_id == row.id, Contribution.site_id.in_(contributors))
        .where(Contribution.completed.is_not(None))
    )
    found = [*(each.manifest or {} for each in rows), *carrying.manifests(session, row)]
    manifests = sorted(found, key=lambda signed: UUID(signed["message"]["site"]).bytes)
    ballot = Ballot.from_json({"plan": row.plan_digest, "manifests": manifests})
    row.state, row.closed = "aggregating", now
    row.ballot, row.ballot_digest = ballot.to_json(), ballot.digest
    _tell(session, row, now, "round.closed", contributors=[str(site) for site in contributors])


def work(session: Session, round_id: UUID) -> Work:
    """What is added and opened in a closed attempt."""
    row = session.get_one(Round, round_id)
    study = session.get_one(Study, row.study_id)
    plan, roster, layout = plan_of(row), roster_of(row), Layout.from_json(study.layout)
    ballot, state = ballot_of(row), _server_state(session, row)
    places = {site: place.id for site, place in carrying.places(session, row).items()}
    return Work(row.id, plan, roster, layout, study.recipe, ballot, state, places)


def record_sums(session: Session, lease: Lease, seconds: float) -> None:
    """All sums are in the blob store. `seconds`: time spent adding."""
    _held(session, lease, "aggregating").add_seconds = seconds


def show_ballot(session: Session, lease: Lease, now: float) -> None:
    row = _held(session, lease, "aggregating")
    row.state, row.opened = "opening", now
    _tell(session, row, now, "round.ballot-shown", ballot=row.ballot_digest)


def ask_opener(session: Session, lease: Lease, site: UUID, now: float) -> None:
    row = _held(session, lease, "opening")
    row.openers = [*row.openers, {"site": str(site), "asked": now}]
    _tell(session, row, now, "round.opener-asked", site=str(site))


def answer(session: Session, round_id: UUID, site: UUID, kind: type[Answer]) -> Answer:
    """What a site answered to the ballot, of the kind its plan takes. Its signature was verified when it came in."""
    return kind.from_json(session.get_one(Opening, (round_id, site)).signed["message"])


def reject_opening(session: Session, lease: Lease, site: UUID, reason: str, now: float) -> None:
    """This site's answer did not open the sum."""
    row = _held(session, lease, "opening")
    session.get_one(Opening, (row.id, site)).rejection = reason
    _tell(session, row, now, "round.opening-rejected", site=str(site), reason=reason)


def note_trial(session: Session, lease: Lease, answers: int, reason: str, now: float) -> None:
    """That many answers did not open the sum together."""
    row = _held(session, lease, "opening")
    row.tried, row.trouble = answers, reason
    _tell(session, row, now, "round.answers-do-not-open", answers=answers, reason=reason)


def complete(session: Session, lease: Lease, revealed: Revealed, wrong: Sequence[UUID], now: float) -> None:
    """The new model becomes the study's; after the evaluation round the study is finished, or after the last training
    round where sites count nothing that an evaluation would show.

    Args:
        wrong: sites whose answer is not the one that the others determine.
    """
    row = _held(session, lease, "opening")
    for site in wrong:
        session.get_one(Opening, (row.id, site)).rejection = _WRONG
        _tell(session, row, now, "round.wrong-answer", site=str(site), reason=_WRONG)
    study = session.get_one(Study, row.study_id)
    digest = row.base_model
    if revealed.model is not None:
        digest, size = revealed.model
        origin = models.Origin(study.id, row.number, row.base_model)
        models.register(session, digest, size, study.layout_digest, study.recipe_digest, now, origin)
        study.current_model, study.completed, study.bounds = digest, study.completed + 1, revealed.bounds
    over = row.kind == "evaluation" or (study.completed >= study.rounds and not study.layout["counts"])
    if over and study.state in ("running", "paused"):
        _finish(session, study, now)
    study.losses = 0
    row.state, row.model, row.ended, row.open_seconds = "complete", digest, now, revealed.seconds
    row.server_state = revealed.server_state
    session.add(Metrics(round_id=row.id, counts=revealed.counts, derived=revealed.measures))
    carrying.release(session, study)
    _tell(session, row, now, "round.complete", model=digest)


def _finish(session: Session, study: Study, now: float) -> None:
    study.state, study.reason = "finished", None
    if study.completed == study.rounds:
        audit.append(session, now, ACTOR, "study.finished", {"study": str(study.id)})
        return
    stopping = Terms.of(study.recipe).early_stopping
    study.reason = (
        f"ended early, after {study.completed} of {study.rounds} rounds: for {stopping.patience if stopping else 0} "
        "rounds the validation loss over all sites did not get better"
    )
    audit.append(session, now, ACTOR, "study.ended-early", {"study": str(study.id), "reason": study.reason})


def outcome(session: Session, round_id: UUID, content: str) -> tuple[float, Outcome]:
    """When the ballot was shown, and the outcome of that content."""
    return session.get_one(Round, round_id).opened or 0.0, outcomes.of_content(session, round_id, content)[0]


def adopt(session: Session, lease: Lease, revealed: Revealed, content: str, now: float) -> None:
    """Complete an attempt that the members opened; whoever derived something else is named."""
    row = _held(session, lease, "opening")
    for other in outcomes.of_content(session, row.id, content)[1]:
        _tell(session, row, now, "round.outcome-differs", site=str(other.site), model=other.model)
    complete(session, lease, revealed, (), now)


def fail(session: Session, lease: Lease, reason: str, now: float) -> None:
    """End the attempt; its study is paused when round after round is lost after the ballot."""
    row = _held(session, lease, *ACTIVE)
    row.state, row.reason, row.ended = "failed", reason, now
    _tell(session, row, now, "round.failed", reason=reason)
    study = session.get_one(Study, row.study_id)
    carrying.release(session, study)
    if not row.after_ballot or study.state == "stopped":
        return
    study.losses += 1
    if study.losses == LOSSES:
        study.losses = 0
        if study.state == "running":
            study.state = "paused"
            study.reason = f"{LOSSES} rounds in a row failed after their ballot was shown, the last one: {reason}"
            audit.append(session, now, ACTOR, "study.paused", {"study": str(study.id), "reason": study.reason})


def leftovers(session: Session, round_id: UUID) -> list[str]:
    """Blobs, and folders of them, that nobody needs once an attempt has ended."""
    row = session.get_one(Round, round_id)
    stay, asked = carrying.kept(session, row), [UUID(site) for site in row.plan["expected"]]
    parts = [site_parts_prefix(row.id, site) for site in asked if site not in stay] if stay else [parts_prefix(row.id)]
    folders = [*parts, sums_prefix(row.id)]
    if _superseded(row):
        folders.append(sealed_models_prefix(row.study_id, row.base_model))
        former = _server_state(session, row)
        folders += [server_state_key(row.study_id, former)] if former not in (None, row.server_state) else []
    return folders


def record_sweep(session: Session, lease: Lease, folders: Sequence[str], now: float) -> None:
    """The ended attempt's blobs are gone: `folders`, as `leftovers` named them. If more are to go now, nothing is
    recorded, and they go next."""
    row = _held(session, lease, "complete", "failed")
    if leftovers(session, row.id) != folders:
        return
    session.execute(delete(Part).where(Part.round_id == row.id, Part.site_id.not_in(carrying.kept(session, row))))
    if _superseded(row):
        sealed_models.forget(session, row.study_id, row.base_model)
    row.swept = now


def _superseded(row: Round) -> bool:
    """Whether the attempt put a new model in its base model's place."""
    return row.state == "complete" and row.model != row.base_model


def lowest_bounds(session: Session, study_id: UUID) -> list[float]:
    """For each tensor the smallest bound that any training plan of the study had."""
    plans = session.scalars(select(Round.plan).where(Round.study_id == study_id, Round.kind == "training"))
    return [float(min(bounds)) for bounds in zip(*(plan["bounds"] for plan in plans), strict=True)]


def _held(session: Session, lease: Lease, *expected: RoundState) -> Round:
    leases.check(session, lease)
    row = session.get_one(Round, lease.round_id)
    if row.state not in expected:
        raise WrongState(f"round {row.id} is {row.state}, not {' or '.join(expected)}")
    return row


def _tell(session: Session, row: Round, now: float, action: str, **detail: Any) -> None:
    where = {"study": str(row.study_id), "round": row.number, "attempt": row.attempt}
    audit.append(session, now, ACTOR, action, where | detail)


def _state(session: Session, row: Round) -> states.State:
    if row.state == "collecting":
        return states.Collecting(_sites(session, row, Contribution), _refusals(session, row, "plan"))
    if row.state == "complete":
        checked = spot_checks.sites(session, row)
        return states.Complete(row.model or "", row.swept is not None, row.ended or 0.0, checked)
    if row.state == "failed":
        return states.Failed(row.reason or "", row.swept is not None)
    contributors = tuple(UUID(signed["message"]["site"]) for signed in (row.ballot or {})["manifests"])
    if row.state == "aggregating":
        return states.Aggregating(contributors, row.add_seconds is not None)
    rows = session.scalars(select(Opening).where(Opening.round_id == row.id)).all()
    return states.Opening(
        contributors=contributors,
        shown=row.opened or 0.0,
        voted=_sites(session, row, Vote),
        refused=_refusals(session, row, "ballot") | _refusals(session, row, "opening"),
        asked=tuple(states.Asked(UUID(entry["site"]), entry["asked"]) for entry in row.openers),
        answered=frozenset(each.site_id for each in rows if each.rejection is None),
        rejected={each.site_id: each.rejection for each in rows if each.rejection is not None},
        tried=(row.tried, row.trouble or ""),
        derived=outcomes.derived(session, row),
        able=carrying.able(session, row),
    )


def _sites(session: Session, row: Round, table: type[Contribution | Vote]) -> frozenset[UUID]:
    query = select(table.site_id).where(table.round_id == row.id)
    if table is Contribution:
        query = query.where(Contribution.completed.is_not(None))
    return frozenset(session.scalars(query))


def _refusals(session: Session, row: Round, step: str) -> dict[UUID, str]:
    rows = session.scalars(select(Refusal).where(Refusal.round_id == row.id, Refusal.step == step))
    roster = roster_of(row)
    return {each.site_id: refusal(each, roster)["words"] for each in rows}


def _settings(study: Study) -> Settings:
    terms = Terms.of(study.recipe)
    return Settings(
        scheme=study.scheme,
        release=study.release,
        weighting=study.weighting,
        minimum_contributors=study.minimum_contributors,
        expected_sites=study.expected_sites,
        rounds=study.rounds,
        collect_seconds=study.collect_seconds,
        vote_seconds=study.vote_seconds,
        open_seconds=study.open_seconds,
        k_max=study.k_max,
        n_max=study.n_max,
        fraction=study.fraction,
        layout=study.layout_digest,
        recipe=study.recipe_digest,
        plateau=terms.plateau,
        early_stopping=terms.early_stopping,
        origin=study.first_model if carrying.carries(study) else None,
        privacy=terms.privacy,
    )


def _losses(session: Session, study_id: UUID) -> tuple[float, ...]:
    """Each is of its round's base model."""
    query = select(Metrics.derived).join(Round, Round.id == Metrics.round_id).where(Round.study_id == study_id)
    rows = session.scalars(query.where(Round.kind == "training", Round.state == "complete").order_by(Round.number))
    return tuple(derived["loss"] for derived in rows if derived.get("loss") is not None)


def _server_state(session: Session, row: Round) -> str | None:
    """What the server optimiser remembered after the round that made this attempt's base model."""
    query = select(Round.server_state).where(Round.study_id == row.study_id, Round.model == row.base_model)
    return session.scalar(query.where(Round.kind == "training", Round.state == "complete"))


def _last(session: Session, study_id: UUID) -> LastAttempt | None:
    row = session.scalar(
        select(Round).where(Round.study_id == study_id).order_by(Round.number.desc(), Round.attempt.desc()).limit(1)
    )
    return LastAttempt(row.number, row.attempt, row.state == "complete" or row.after_ballot) if row else None


def _epoch(session: Session, study_id: UUID) -> KeyEpoch | None:
    epoch = epochs.current(session, study_id)
    return KeyEpoch(epoch.record_digest, frozenset(epochs.holders(session, epoch))) if epoch else None
