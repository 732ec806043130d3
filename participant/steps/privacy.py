"""Before anything is sealed under a promise of differential privacy: is it one, and does the plan keep it?"""

from __future__ import annotations

from crypto.plan import Plan
from participant.documents import Study
from participant.policy import Refused
from participant.steps.desk import Desk, Site


def check_figures_and_privacy(site: Site, desk: Desk) -> None:
    """Raise unless this site may join the study, for what its sums tell of patients.

    Raises:
        Refused: the policy allows less, or the study breaks its own promise.
    """
    study, counts = desk.study, bool(desk.layout.counts)
    site.policy.check_figures(counts, study.weighting)
    site.policy.check_privacy(desk.privacy, study.rounds)
    if desk.privacy is not None:
        _check_promise(study, counts)


def check_private_plan(desk: Desk, plan: Plan) -> None:
    """The same of a plan, whose numbers are the ones that count.

    Raises:
        Refused: the policy allows less, or noise would be cut off, weighed or used again.
    """
    site, promise = desk.site, desk.privacy
    site.policy.check_figures(bool(desk.layout.counts), plan.weighting)
    site.policy.check_privacy(promise, site.record.contributions(plan.study) + 1)
    if promise is None:
        return
    if plan.weighting != "equal" or plan.carried or plan.origin is not None:
        words = "under differential privacy a plan weighs all sites alike and sums fresh contributions alone"
        raise Refused("privacy-broken", words)
    bound = promise.bound(plan.minimum_contributors)
    if set(plan.bounds) != {bound}:
        words = (
            f"under differential privacy all bounds are {bound:g}, which holds updates of length {promise.clip:g} and "
            f"this site's noise of deviation {promise.share(plan.minimum_contributors):.3g}; the plan says "
            f"{min(plan.bounds):g} to {max(plan.bounds):g}"
        )
        raise Refused("privacy-broken", words)


def _check_promise(study: Study, counts: bool) -> None:
    if counts or study.weighting != "equal" or study.carries:
        words = (
            "the study promises differential privacy and breaks it: counts and weights of cases would be opened "
            "without noise, and carried contributions again and again; ask the operator for another study"
        )
        raise Refused("privacy-broken", words)
