"""How far the sums that one contribution is in give its secret away (docs/decisions/0009).

Each opened sum is the contribution's secret plus those of the other contributors, of variance 16 each. A carried
contribution is in many sums and stays the same while the fresh ones are drawn anew, so whoever averages the sums knows
it ever better: given all of them, a coefficient is left the variance 16 / (1 + exposure), where a sum adds one over the
number of fresh contributions beside it. Fresh ones of colluders hide nothing: with h honest ones of F it is 1 / h.
"""

from __future__ import annotations

from typing import Final

from crypto.checks import carried_as
from crypto.manifest import Ballot, Manifest
from crypto.parameters import CARRY_LIMIT
from crypto.plan import Plan

_ROUNDING: Final = 1e-9  # sums of thirds, in whatever order, reach a whole number


def shares(ballot: Ballot, plan: Plan) -> dict[str, float]:
    """What opening this ballot adds to the exposure of each contribution in it, by the digest of its manifest."""
    manifests = [entry.message for entry in ballot.manifests]
    fresh = sum(_is_fresh(manifest, plan) for manifest in manifests)
    return {each.digest: 1 / max(1, fresh - 1 if _is_fresh(each, plan) else fresh) for each in manifests}


def may_carry(exposure: float, minimum: int) -> bool:
    """Whether one more sum, beside so few fresh contributions as a plan admits, stays within the limit."""
    return exposure + 1 / minimum <= CARRY_LIMIT + _ROUNDING


def _is_fresh(manifest: Manifest, plan: Plan) -> bool:
    return carried_as(manifest, plan) is None
