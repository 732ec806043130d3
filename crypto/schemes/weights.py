"""What a contribution counts for in the mean.

Weights are whole multiples of 1 / n_max, and the multiples are summed in a count lane beside the update, so the sum of
weights opens exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crypto.errors import Malformed, OpeningRefused
from crypto.lanes import OpenedCounts
from crypto.layout import Layout, named_counts
from crypto.parameters import LOSS_UNIT
from crypto.plan import Plan

_LEAST, _MOST = 0.5, 2.0  # of a site's loss in units of the reference
LOSS_COUNTS: Final = ("cases", "loss")  # what a layout has to count where weights are dynamic


def weight_units(plan: Plan, layout: Layout, samples: int, recipe_counts: Sequence[int]) -> int:
    """A contribution's weight in units of 1 / n_max: min(samples, n_max), under dynamic weights a share of that.

    With samples it is at least 1: who contributes counts.

    Args:
        recipe_counts: the layout's counts of this site, flat; the loss is taken from them.

    Raises:
        Malformed: weights are dynamic and the layout counts no loss.
    """
    capped = min(samples, plan.n_max)
    if plan.weighting != "dynamic":
        return capped
    return max(min(1, capped), round(capped * _share(plan, layout, recipe_counts)))


def weight(plan: Plan, units: int) -> float:
    """The weight of a contribution of so many units: 1 where the plan weighs all sites alike."""
    return 1.0 if plan.weighting == "equal" else units / plan.n_max


def weight_sum(plan: Plan, counts: OpenedCounts, contributors: int) -> float:
    """The sum of the contributors' weights.

    Raises:
        OpeningRefused: more than so many contributors may have.
    """
    if counts.capped_samples > contributors * plan.n_max:
        raise OpeningRefused("the contributors' weights add up to more than the plan admits: a malformed contribution")
    return float(contributors) if plan.weighting == "equal" else counts.capped_samples / plan.n_max


def divisor(plan: Plan, counts: OpenedCounts, contributors: int) -> float:
    """What the opened sum of updates is divided by."""
    return weight_sum(plan, counts, contributors) if plan.kind == "training" else 1.0


def _share(plan: Plan, layout: Layout, recipe_counts: Sequence[int]) -> float:
    """clip(loss / reference, 1/2, 2) / 2, the loss a case of the base model on this site's validation cases: the weight
    of q-FFL (Li et al., ICLR 2020) with q = 1, bounded. 1/2 where either is unknown, as for a site like the average.
    """
    named = named_counts(recipe_counts, layout.counts)
    if not named.keys() >= set(LOSS_COUNTS):
        raise Malformed("dynamic weights are made of the counts cases and loss, and this layout lacks them")
    cases = int(named["cases"])
    if plan.reference_loss is None or not cases:
        return 0.5
    ratio = int(named["loss"]) / LOSS_UNIT / cases / plan.reference_loss
    return min(max(ratio, _LEAST), _MOST) / 2
