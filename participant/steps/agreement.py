"""Whether the members of a study agree on a model that only they hold, by their own signed words."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from http import HTTPStatus
from uuid import UUID

from crypto.checks import check_reply, check_roster, votes_needed
from crypto.errors import CryptoError
from crypto.outcome import Outcome
from crypto.plan import Plan, Roster
from participant.documents import Ended
from participant.policy import Refused
from participant.session import Problem
from participant.steps.desk import Desk


def tend_agreement(desk: Desk, last: Ended) -> None:
    """See whether the members agree on the model of a round that completed, and name who derived another.

    Only such a model is trained on or passed on. A site that saw nothing of the ballot is told by a member.
    """
    record, model = desk.site.record, last.model
    if last.state != "complete" or model is None or record.agreed(desk.study.id, model):
        return
    try:
        plan = desk.site.client.plan(desk.study.id, last.round, last.attempt)
        ballot = record.ballot(plan) if record.accepted(plan) else None
        if ballot is None:
            return
        roster = check_roster(plan, desk.site.client.plan_roster(plan))
        outcomes = [check_reply(each, ballot, roster) for each in desk.site.client.outcomes(plan)]
        agreeing = agreeing_members(outcomes, model, votes_needed(roster))
    except Problem as problem:
        if problem.status != HTTPStatus.FORBIDDEN:  # else this site was not in that round
            desk.say_once(f"round {last.round}: the members' outcomes are not served: {problem}", logging.WARNING)
        return
    except (Refused, CryptoError) as error:
        desk.refuse(error, model)
        return
    record.agree(desk.study.id, model)
    desk.note("model-agreed", plan, model=model, members=len(agreeing))
    desk.say(f"round {plan.round}: {len(agreeing)} of {len(roster.members)} members derived the model {model[:12]}...")
    _name_others(desk, plan, roster, ballot, model, [each for each in outcomes if each.site not in agreeing])


def agreeing_members(outcomes: Sequence[Outcome], model: str, needed: int) -> set[UUID]:
    """The members whose outcomes are alike and name this model.

    Raises:
        Refused: too few.
    """
    alike: dict[str, set[UUID]] = defaultdict(set)
    for outcome in outcomes:
        if outcome.model == model:
            alike[outcome.content].add(outcome.site)
    agreeing = max(alike.values(), key=len, default=set())
    if len(agreeing) < needed:
        words = (
            f"the coordinator names {model[:12]}... as the new model, and {len(agreeing)} of at least {needed} members "
            "signed for it: this site does not train on it"
        )
        raise Refused("model-unproven", words)
    return agreeing


def _name_others(desk: Desk, plan: Plan, roster: Roster, ballot: str, model: str, others: Sequence[Outcome]) -> None:
    """In the ledger and on the terminal: who derived something else, this site perhaps."""
    own = desk.site.record.outcome(ballot)
    if own is not None and own.message.model != model:
        others = [*(each for each in others if each.site != desk.site.me), own.message]
    for outcome in others:
        member = roster.member(outcome.site)
        name, found = member.name if member else str(outcome.site), outcome.model or "none"
        desk.note("outcome-differs", plan, site=str(outcome.site), name=name, model=found, agreed=model)
        if outcome.site == desk.site.me:
            words = (
                f"this site derived another model ({found[:12]}...) than the members agreed on: the coordinator served "
                "it other sums than them, or something is wrong here. It asks a member for theirs"
            )
        else:
            words = f"{name} derived another model ({found[:12]}...)"
        desk.say(f"round {plan.round}: {words}", logging.WARNING)
