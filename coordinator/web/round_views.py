"""An attempt as pages show it: how far it is, who did what, what was cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.orm import Session

from coordinator.store import glance, outcomes, site_evaluations, spot_checks, tables
from coordinator.store.kept import plan_of
from coordinator.store.tables import Round
from crypto.checks import takes_votes
from crypto.layout import Layout
from crypto.schemes.spot_check import checkable

Progress = Literal["done", "under way", "to come", "failed"]


@dataclass(frozen=True, slots=True)
class Step:
    """One of an attempt's three; times in Unix seconds."""

    name: str
    progress: Progress
    began: float | None
    ended: float | None

    @property
    def seconds(self) -> float | None:
        return None if self.began is None or self.ended is None else self.ended - self.began


@dataclass(frozen=True, slots=True)
class Clipped:
    """A tensor of which `values` of `of` values were cut off at `bound`, over all contributors."""

    tensor: str
    bound: float
    values: int
    of: int


@dataclass(frozen=True, slots=True)
class Clipping:
    """What was cut off of the updates; what is cut off a parameter is added to the site's next update."""

    tensors: Sequence[Clipped]
    values: int
    of: int


def about_round(session: Session, row: Round, found: Sequence[glance.Attempt]) -> dict[str, Any]:
    """What a round's page and its study's page show of it.

    Args:
        found: the study's attempts, this one among them.
    """
    attempt = next(each for each in found if each.id == row.id)
    plan = plan_of(row)
    return {
        "row": row,
        "attempt": attempt,
        "steps": steps(attempt),
        "phases": glance.phases(session, row),
        "votes": takes_votes(plan.scheme),
        "members_open": plan.release == "members",
        "checkable": checkable(plan),
        "checks": {each["site"]: each for each in spot_checks.shown(session, row)},
        "strays": [each for each in outcomes.shown(session, row) if not each["agrees"]],
        "refusals": glance.refusals(session, row),
        "carried": [each.member.site for each in plan.carried],
        "evaluations": site_evaluations.shown(session, row),
        "clipping": _clipping(session, row, len(attempt.contributors) + len(plan.carried)),
    }


def steps(attempt: glance.Attempt) -> list[Step]:
    """Collecting, adding up and opening, each as far as it is."""
    times = (attempt.started, attempt.closed, attempt.opened, attempt.ended)
    found = []
    for name, began, ended in zip(("Collect", "Add up", "Open"), times, times[1:], strict=False):
        over = ended if ended is not None or began is None else attempt.ended  # an attempt may fail in any of them
        found.append(Step(name, _progress(attempt, began, ended), began, over))
    return found


def _progress(attempt: glance.Attempt, began: float | None, ended: float | None) -> Progress:
    if began is None:
        return "to come"
    if ended is None:
        return "failed" if attempt.state == "failed" else "under way"
    return "failed" if attempt.state == "failed" and ended == attempt.ended and attempt.opened == began else "done"


def _clipping(session: Session, row: Round, contributors: int) -> Clipping | None:
    """None while the round is not complete, or where it trained nothing."""
    counts = glance.clipped(session, row)
    if counts is None or row.kind == "evaluation":
        return None
    layout = Layout.from_json(session.get_one(tables.Study, row.study_id).layout)
    rows = [
        Clipped(tensor.name, bound, values, tensor.size * contributors)
        for tensor, bound, values in zip(layout.tensors, row.plan["bounds"], counts, strict=True)
    ]
    cut = sorted((each for each in rows if each.values), key=lambda each: -each.values / each.of)
    return Clipping(cut, sum(each.values for each in rows), sum(each.of for each in rows))
