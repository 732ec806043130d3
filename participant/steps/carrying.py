"""Studies in which sites that left still count: what this site checks of such a plan (docs/decisions/0009)."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from crypto.exposure import may_carry
from crypto.parameters import CARRY_LIMIT
from crypto.plan import Carried, Plan, Roster
from participant.documents import RoundRow
from participant.policy import Refused
from participant.steps.desk import Desk
from participant.steps.peers import check_approved

COUNTS_ON: Final = (
    "a site that leaves this study still counts: its last contribution is summed again in later rounds, as often as "
    "can be without telling it from the others'. Whoever joins later could read it together with the coordinator. "
    "`pleura-participant leave --withdraw` takes it out with the next plan"
)


def check_carried(desk: Desk, plan: Plan, roster: Roster) -> None:
    """Raise unless the plan's updates are relative to what they always were, and each carried contribution may be.

    Raises:
        Refused: naming the site that left, or what changed.
        Malformed: its keys are no keys.
    """
    if desk.study.carries != (plan.origin is not None):
        raise Refused("origin-changed", "the plan and the study's recipe differ on whether sites that left still count")
    if plan.origin is None:
        return
    if plan.origin != desk.study.first_model:
        raise Refused("origin-changed", "the plan's updates are relative to another model than the study's first one")
    desk.site.record.keep_origin(plan)
    _check_majority(desk, plan, roster)
    for carried in plan.carried:
        check_approved(desk, carried.member, "is carried")
        _check_last(desk, carried)
        _check_exposure(desk, plan, carried)


def names(plan: Plan) -> str:
    """For people: whose contributions are carried."""
    return ", ".join(carried.member.name for carried in plan.carried)


def _check_majority(desk: Desk, plan: Plan, roster: Roster) -> None:
    """Raise unless a plan that carries is for more than half of whom this site ever approved, itself included, apart
    from those carried.

    Each site counts the sums that it was shown. Of small rosters a coordinator could make many that hardly meet, and
    have each one's majority open another sum: all of them together would pass any limit.
    """
    known = {desk.site.me, *desk.site.record.approved(desk.study.id)} - {each.member.site for each in plan.carried}
    if plan.carried and 2 * len(roster.members) <= len(known):
        words = (
            f"{names(plan)} left and counts, and the plan is for {len(roster.members)} sites of the {len(known)} that "
            "were ever approved here: others could open other sums meanwhile, uncounted here"
        )
        raise Refused("carried-by-few", words)


def _check_exposure(desk: Desk, plan: Plan, carried: Carried) -> None:
    exposure = desk.site.record.exposure(plan.study, carried.manifest)
    if not may_carry(exposure, plan.minimum_contributors):
        words = (
            f"the last contribution of {carried.member.name} was in sums of an exposure of {exposure:.3g}. One more, "
            f"beside no more than {plan.minimum_contributors} fresh ones, would pass {CARRY_LIMIT:g}, and averaging "
            "could tell it from the others'"
        )
        raise Refused("carried-too-often", words)


def _check_last(desk: Desk, carried: Carried) -> None:
    """Raise unless it is the last one that counted, as far as this site was shown ballots.

    What the site itself did not see, it has to take from the coordinator: whether an attempt failed.
    """
    study, site = desk.study.id, carried.member.site
    seen = desk.site.record.contributions_of(study, site)
    if not seen or seen[0][2] == carried.manifest:
        return
    rows = desk.site.client.rounds(study)
    failed = {(row.round, row.attempt) for row in rows if row.state == "failed"}
    counted = max(((row.round, row.attempt) for row in rows if _counted(row, site)), default=(0, 0))
    number, attempt, manifest = next((each for each in seen if each[:2] not in failed), (0, 0, carried.manifest))
    if manifest != carried.manifest and counted <= (number, attempt):
        words = (
            f"the plan carries another contribution of {carried.member.name} than its last one, of round {number}, "
            f"attempt {attempt}"
        )
        raise Refused("carried-older", words)


def _counted(row: RoundRow, site: UUID) -> bool:
    return row.state == "complete" and site in row.contributors and site not in row.carried
