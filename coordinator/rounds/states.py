"""Where an attempt at a round stands: one value a state, each with exactly what that state has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from crypto.plan import Plan, Roster


@dataclass(frozen=True, slots=True)
class Collecting:
    """`arrived`: sites whose contribution is whole. `refused`: sites that refused the plan, with their words."""

    arrived: frozenset[UUID]
    refused: Mapping[UUID, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Aggregating:
    """The set is frozen; `added` once all sums lie in the blob store."""

    contributors: tuple[UUID, ...]
    added: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """An opener, and when it was asked."""

    site: UUID
    at: float


@dataclass(frozen=True, slots=True)
class Derived:
    """What a member made of the ballot itself, by its content, and when that came in."""

    site: UUID
    content: str
    at: float


@dataclass(frozen=True, slots=True)
class Opening:
    """The ballot is out.

    Attributes:
        shown: when it was first shown.
        voted: sites that voted for it.
        refused: sites that refused to vote or to open, with their words.
        asked: openers in the order in which they were asked.
        answered: sites whose opening is in and has not failed.
        rejected: sites whose opening did not open the sum, with the reason.
        tried: how many answers were combined in vain, and why; where it takes several to open.
        derived: outcomes in the order in which they came in, where the members open the sum.
        able: sites that hold every key that it takes, where contributions are carried; None: all that hold the plan's.
    """

    contributors: tuple[UUID, ...]
    shown: float
    voted: frozenset[UUID]
    refused: Mapping[UUID, str] = field(default_factory=dict)
    asked: tuple[Asked, ...] = ()
    answered: frozenset[UUID] = frozenset()
    rejected: Mapping[UUID, str] = field(default_factory=dict)
    tried: tuple[int, str] = (0, "")
    derived: tuple[Derived, ...] = ()
    able: frozenset[UUID] | None = None


@dataclass(frozen=True, slots=True)
class Complete:
    """`swept` once the attempt's parts and sums are deleted; `checked`: sites that reported a spot check until then."""

    model: str
    swept: bool
    ended: float = 0.0
    checked: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True)
class Failed:
    reason: str
    swept: bool


State: TypeAlias = Collecting | Aggregating | Opening | Complete | Failed


@dataclass(frozen=True, slots=True)
class View:
    """One attempt as its conductor sees it. `stopped`: the operator stopped the study."""

    id: UUID
    plan: Plan
    roster: Roster
    stopped: bool
    state: State

    def name(self, site: UUID) -> str:
        member = self.roster.member(site)
        return member.name if member else str(site)
