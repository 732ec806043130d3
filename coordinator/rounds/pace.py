"""How fast sites train, and for how long: decided by the pooled validation losses of the rounds so far."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

_BETTER: Final = 1 - 1e-4  # what a loss has to be below, in units of the best one; as in torch's ReduceLROnPlateau


class Plateau(Protocol):
    """The rate times `factor` once more than `patience` rounds in a row brought no better loss."""

    @property
    def factor(self) -> float: ...
    @property
    def patience(self) -> int: ...


class EarlyStopping(Protocol):
    """An end once `patience` rounds in a row brought no better loss."""

    @property
    def patience(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """`rate`: what the next round's learning rate is multiplied with, at most 1; `stop`: there is no next round."""

    rate: float
    stop: bool


def pace(losses: Iterable[float], plateau: Plateau | None, early_stopping: EarlyStopping | None) -> Pace:
    """What follows from the losses so far, oldest first; those of rounds that know none are left out.

    The rate is that of torch.optim.lr_scheduler.ReduceLROnPlateau, stepped once with each loss: `factor`, `patience`,
    a relative threshold of 1e-4, and otherwise its defaults.
    """
    best, rate, stop = math.inf, 1.0, False
    since_better, since_change = 0, 0
    for loss in losses:
        better = loss < best * _BETTER
        best = loss if better else best
        since_better, since_change = (0, 0) if better else (since_better + 1, since_change + 1)
        if plateau is not None and since_change > plateau.patience:
            rate, since_change = rate * plateau.factor, 0
        stop = stop or (early_stopping is not None and since_better >= early_stopping.patience)
    return Pace(rate, stop)
