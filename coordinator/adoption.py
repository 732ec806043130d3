"""What the coordinator makes of an outcome that the members agreed on: everything but the model, which stays there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coordinator import metrics
from coordinator.rounds.work import Revealed, Work
from crypto.lanes import OpenedCounts, adapt_bounds
from crypto.layout import Layout, named_counts
from crypto.outcome import Outcome


def adopt(work: Work, outcome: Outcome, lowest_bounds: Sequence[float], seconds: float) -> Revealed:
    """What the round adds, from the members' own word.

    Args:
        lowest_bounds: for each tensor, of all plans of the study so far.
        seconds: what it took the members.
    """
    bounds, model = list(work.plan.bounds), None
    if outcome.model is not None and outcome.size is not None:
        model = (outcome.model, outcome.size)
        contributors = len(work.ballot.manifests)
        bounds = adapt_bounds(bounds, outcome.clipped, work.layout, contributors, lowest_bounds)
    counts = OpenedCounts(outcome.capped_samples, outcome.samples, outcome.clipped, outcome.recipe)
    return Revealed(model, bounds, *pooled(counts, work.layout), seconds)


def pooled(counts: OpenedCounts, layout: Layout) -> tuple[dict[str, Any], dict[str, Any]]:
    """A round's counts by name, and the measures made of them; both as JSON."""
    named = named_counts(counts.recipe, layout.counts)
    by_name = {
        "samples": counts.samples,
        "capped_samples": counts.capped_samples,
        "clipped": list(counts.clipped),
        "recipe": {name: values.tolist() for name, values in named.items()},
    }
    return by_name, metrics.measures(named)
