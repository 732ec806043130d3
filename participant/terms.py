"""What the coordinator decides of a round's training at every site."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoundTerms:
    """One round's terms.

    round: counted from 1. rate: what the recipe's learning rate is multiplied with, once more than by its schedule (a
    plateau lowers it). share: the sites that are asked for this round among all of the roster's, in (0, 1]. attempt: at
    this round, counted from 1.
    """

    round: int
    rate: float = 1.0
    share: float = 1.0
    attempt: int = 1
