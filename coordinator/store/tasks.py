"""What a site has to do now (docs/wire.md, Task), and a cursor that changes when the answer does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, literal, select, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session

from coordinator.store import attempts, epochs, memberships, sealed_models
from coordinator.store.tables import Contribution, Opening, Outcome, Round, Study, Vote
from crypto.checks import takes_votes


@dataclass(frozen=True)
class Survey:
    """What the members of a study have to do, looked up once for all of them.

    Attributes:
        common: marks that are the same for every member.
        done: by the name of a mark, who did that in the attempt under way.
        members: who takes part now.
        offers: members that sealed the current model to a site, the first first.
        plan, roster: of the attempt under way, as they lie in the database.
    """

    common: Mapping[str, Any]
    done: Mapping[str, frozenset[UUID]]
    members: frozenset[UUID]
    offers: Mapping[UUID, list[str]]
    plan: dict[str, Any] | None
    roster: dict[str, Any] | None

    def marks(self, site: UUID) -> dict[str, Any]:
        """A member's task with a digest, or a number, in place of each message."""
        return {**self.common, **self._own(site)}

    def cursor(self, site: UUID) -> str:
        """A name for this state of things, as far as it is news to a site: that it contributed, or voted, is not."""
        own = {name: mark for name, mark in self._own(site).items() if name not in _ITS_OWN}
        if str(site) in self.common["openers"]:  # it may lack them; the others would be woken by each for nothing
            own |= {name: self.common[name] for name in _COUNTS}
        return _digest([self._common_digest, own])

    def _own(self, site: UUID) -> dict[str, Any]:
        return {name: site in sites for name, sites in self.done.items()} | {"model_offers": self.offers.get(site, [])}

    @cached_property
    def _common_digest(self) -> str:
        return _digest({name: mark for name, mark in self.common.items() if name not in _COUNTS})


def survey(session: Session, study: Study, now: float, recent_seconds: float) -> Survey:
    """How things stand."""
    active, members = attempts.active(session, study.id), memberships.find_roster(session, study.id)
    common = {
        "study_state": study.state,
        "phase": active.state if active else "waiting",
        "epoch": epochs.summary(session, study, now, recent_seconds),
        "plan": active.plan_digest if active else None,
        "members": members.digest if members else None,  # who joins is news: approve it
        **(_of_attempt(active) if active else _NOTHING),
        "model_wanted": sealed_models.wanted(session, study),
        "last": _last(session, study.id),
    }
    done = _done(session, active)
    combined = active is not None and active.plan["release"] == "members"  # elsewhere answers are news to nobody
    counts = {"votes": len(done["voted"]), "answers": len(done["opened"]) if combined else 0}
    offers = sealed_models.offers(session, study)
    present = frozenset(member.site for member in members.members) if members else frozenset[UUID]()
    plan, roster = (active.plan, active.roster) if active else (None, None)
    return Survey(common | counts, done, present, offers, plan, roster)


def task(session: Session, study: UUID, found: Survey, site: UUID) -> dict[str, Any] | None:
    """A member's whole task; None where the study's key has changed since the survey."""
    epoch, current = found.common["epoch"], epochs.current(session, study)
    if epoch["record"] != (current.record_digest if current else None):
        return None
    messages = {"epoch": epochs.signed(session, current, epoch, site), "plan": found.plan, "roster": found.roster}
    return {**found.marks(site), "cursor": found.cursor(site), **messages}


_COUNTS: Final = ("votes", "answers")
_ITS_OWN: Final = ("contributed", "voted")
_NOTHING: Final[dict[str, Any]] = {"ballot": None, "openers": []}
#: Who did what in an attempt.
_DONE: Final = {
    "contributed": Contribution.site_id,
    "voted": Vote.site_id,
    "opened": Opening.site_id,
    "derived": Outcome.site_id,
}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def _done(session: Session, active: Round | None) -> dict[str, frozenset[UUID]]:
    """Who did each of these in the attempt."""
    found: dict[str, set[UUID]] = {name: set() for name in _DONE}
    if active is not None:
        for name, site in session.execute(union_all(*(_who(name, column, active) for name, column in _DONE.items()))):
            found[name].add(site)
    return {name: frozenset(sites) for name, sites in found.items()}


def _who(name: str, column: InstrumentedAttribute[UUID], active: Round) -> Select[str, UUID]:
    table = column.class_
    query = select(literal(name), column).where(table.round_id == active.id)
    return query.where(table.completed.is_not(None)) if table is Contribution else query


def _of_attempt(row: Round) -> dict[str, Any]:
    return {"ballot": row.ballot_digest if row.opened is not None else None, "openers": _openers(row)}


def _openers(row: Round) -> list[str]:
    """Who is asked to answer: one opener after another, or all members at once where it takes several or all open."""
    plan = row.plan  # read as it lies there: this is asked on every look of every waiting agent
    if row.opened is None or (takes_votes(plan["scheme"]) and plan["release"] == "open"):
        return [entry["site"] for entry in row.openers]
    return [member["site"] for member in row.roster["members"]]


def _last(session: Session, study: UUID) -> dict[str, Any] | None:
    """The newest ended attempt: by it a site commits or drops its residual."""
    row = session.scalar(
        select(Round)
        .where(Round.study_id == study, Round.state.in_(("complete", "failed")))
        .order_by(Round.number.desc(), Round.attempt.desc())
        .limit(1)
    )
    if row is None:
        return None
    return {
        "round": row.number,
        "attempt": row.attempt,
        "state": row.state,
        "reason": row.reason,
        "contributors": contributors(row),
        "model": row.model or row.base_model,
    }


def contributors(row: Round) -> list[str]:
    """Sites in the attempt's ballot, as text."""
    return [signed["message"]["site"] for signed in (row.ballot or {"manifests": []})["manifests"]]
