"""Outside the policy's hours nothing is trained here; all else goes on."""

from __future__ import annotations

from datetime import datetime

from crypto.plan import Plan
from participant.policy import Refused
from participant.steps.desk import Desk


def may_train(desk: Desk, plan: Plan) -> bool:
    """Whether the contribution to a plan may be made or delivered now: what is sealed already may leave at any hour.

    Where the next hours begin too late for the round, both operators are told so.
    """
    site = desk.site
    hours, now = site.policy.hours, site.clock()
    if hours.hold(now) or site.record.manifest(plan) is not None:
        return True
    begin = hours.begin_after(now)
    rule = f"policy.toml allows training {site.policy.training_hours} on {', '.join(site.policy.training_days)}"
    if begin < plan.collect_until:
        desk.say_once(f"round {plan.round}: waiting until {datetime.fromtimestamp(begin):%a %H:%M}; {rule}")
    else:
        words = f"{rule}, by this site's clock; the round closes before that"
        desk.refuse(Refused("outside-hours", words), plan.digest, "plan", plan)
    return False
