"""A site's own figures in the open, where policy.toml says `metrics = "site"`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from crypto.plan import Plan
from crypto.site_evaluation import SiteEvaluation
from participant.job import Job
from participant.session import Problem
from participant.steps.desk import Desk


def share_evaluation(desk: Desk, plan: Plan, counts: Sequence[int], job: Job) -> None:
    """Send the counts of the plan's base model, signed, if the policy lets single figures out; else nothing.

    The round does not depend on it: what the coordinator does not take is ledgered, and the work goes on.
    """
    site = desk.site
    if site.policy.metrics != "site" or not counts:
        return
    said = SiteEvaluation(plan=plan.digest, site=site.me, model=plan.base_model, counts=tuple(counts))
    try:
        site.client.pausing(job.pause).give_evaluation(plan, site.identity.sign(said))
    except Problem as problem:
        desk.note("not-taken", plan, code=problem.code, words=problem.detail[:500])
        desk.say(f"round {plan.round}: this site's own figures were not taken: {problem}", logging.WARNING)
