"""Who is asked for a round, and what a contribution counts for, where no coordinator says so."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from crypto.exposure import may_carry
from crypto.layout import Layout
from crypto.plan import Plan, asked
from crypto.schemes.weights import weight, weight_units
from models.recipe import Recipe
from simulation.engine.values import Spec


def drawn(recipe: Recipe, present: Sequence[str], seed: int, number: int) -> list[str]:
    """The sites that are asked for a round: the recipe's share of them, never fewer than its minimum."""
    wanted = asked(recipe.federation.fraction, len(present), recipe.federation.minimum_contributors)
    return sorted(random.Random(f"{seed}/{number}").sample(sorted(present), min(wanted, len(present))))


def asked_in(spec: Spec, number: int) -> list[str]:
    """The sites that are asked for a round of a plaintext run: those that the specification names, or drawn ones."""
    known = spec.asked.get(number)
    return list(known) if known is not None else drawn(spec.recipe, spec.present(number - 1), spec.seed, number)


def carried(spec: Spec, number: int) -> list[str]:
    """The sites that left and still count in a training round, as long as a coordinator would carry them."""
    federation = spec.recipe.federation
    gone = {name for name, after in spec.departures.items() if after < number} if federation.carry else set()
    former = [set(asked_in(spec, n)) for n in range(1, number)] if gone else []
    return [name for name in sorted(gone) if _lasts(name, former, federation.minimum_contributors)]


def weight_of(
    recipe: Recipe, layout: Layout, samples: int, counts: Sequence[int], reference_loss: float | None
) -> float:
    """What a contribution counts for, as its site would weigh it.

    Args:
        counts: the layout's counts of the base model on the site's validation cases, flat.
        reference_loss: the pooled validation loss of the last completed training round, nats a case.
    """
    federation = recipe.federation
    parts: dict[str, Any] = {
        "n_max": federation.n_max,
        "weighting": federation.weighting,
        "reference_loss": reference_loss,
    }
    plan = Plan.model_construct(**parts)  # what a weight is made of in one
    return weight(plan, weight_units(plan, layout, samples, counts))


def _lasts(name: str, former: Sequence[set[str]], minimum: int) -> bool:
    """Whether a site's last contribution may be summed once more (`crypto.exposure`).

    Args:
        former: who contributed to each round so far.
    """
    last = max((place for place, sites in enumerate(former) if name in sites), default=None)
    if last is None:
        return False
    exposure = 1 / max(1, len(former[last]) - 1) + sum(1 / len(sites) for sites in former[last + 1 :])
    return may_carry(exposure, minimum)
