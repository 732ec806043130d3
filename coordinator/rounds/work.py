"""What goes into adding and opening an attempt, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from crypto.layout import Layout
from crypto.manifest import Ballot
from crypto.plan import Plan, Roster


@dataclass(frozen=True, slots=True)
class Work:
    """A closed attempt: what is added and opened. `recipe` is the study's, `server_state` the digest of what the
    server optimiser remembers of the rounds before, if anything; `places` has, by site, the attempts under which
    carried contributions lie."""

    round_id: UUID
    plan: Plan
    roster: Roster
    layout: Layout
    recipe: dict[str, Any]
    ballot: Ballot
    server_state: str | None = None
    places: Mapping[UUID, UUID] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Revealed:
    """What an opened attempt adds.

    Attributes:
        model: digest and size of the new model's file; None after an evaluation round.
        bounds: of the next plan.
        counts: pooled over the contributors: "samples", "capped_samples", "clipped" (one a tensor), and under "recipe"
            the layout's counts by name.
        measures: what `coordinator.metrics` makes of them.
        seconds: time spent opening.
        server_state: digest of what the server optimiser remembers, if anything.
    """

    model: tuple[str, int] | None
    bounds: list[float]
    counts: dict[str, Any]
    measures: dict[str, Any]
    seconds: float
    server_state: str | None = None
