"""The pace of a study: torch's own scheduler as the judge of the rate, and a plain count as that of the end."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from coordinator.rounds.pace import Pace, pace


@dataclass(frozen=True)
class Plateau:
    factor: float
    patience: int


@dataclass(frozen=True)
class Stopping:
    patience: int


def torchs(losses, plateau: Plateau) -> float:
    """What torch makes of a rate of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=plateau.factor, patience=plateau.patience, eps=0.0
    )
    for loss in losses:
        scheduler.step(loss)
    return optimizer.param_groups[0]["lr"]


def curve(seed: int) -> list[float]:
    """Falls, stalls, rises, with ties and steps near the threshold."""
    random = np.random.default_rng(seed)
    steps = random.choice([-0.1, -5e-5, -1e-4, 0.0, 0.02, -0.01], 60)
    return (1.0 + np.cumsum(steps)).clip(0.01).tolist()


@pytest.mark.parametrize("plateau", [Plateau(0.1, 1), Plateau(0.5, 2), Plateau(0.7, 5), Plateau(0.2, 10)], ids=str)
def test_the_rate_is_torchs_after_every_round(plateau) -> None:
    lowered = set()
    for seed in range(40):
        losses = curve(seed)
        for rounds in range(len(losses) + 1):
            found = pace(losses[:rounds], plateau, None)
            assert found == Pace(pytest.approx(torchs(losses[:rounds], plateau), rel=1e-12), stop=False)
        lowered.add(found.rate)
    assert len(lowered) > 2, "the curves differ in what they lower"


def test_once_more_than_patience_rounds_brought_nothing_better() -> None:
    assert [pace([1.0] * rounds, Plateau(0.5, 2), None).rate for rounds in range(8)] == [
        1,
        1,
        1,
        1,
        0.5,
        0.5,
        0.5,
        0.25,
    ]


def test_a_hair_is_no_better() -> None:
    assert pace([1.0, 0.99995, 0.9999], None, Stopping(2)).stop
    assert not pace([1.0, 0.99995, 0.9998], None, Stopping(2)).stop


def test_the_end_comes_after_patience_rounds_in_a_row_and_stays() -> None:
    losses = [1.0, 0.9, 0.95, 0.8, 0.85, 0.9, 0.81, 0.1, 0.05]
    assert [pace(losses[:rounds], None, Stopping(3)).stop for rounds in range(10)] == [False] * 7 + [True] * 3


def test_without_either_nothing_happens() -> None:
    assert pace([1.0] * 50, None, None) == Pace(1.0, stop=False)
    assert pace([], Plateau(0.5, 1), Stopping(1)) == Pace(1.0, stop=False)


def test_both_count_apart() -> None:
    """A lowered rate gives the plateau a new start, not the end."""
    found = [pace([1.0] * rounds, Plateau(0.1, 1), Stopping(4)) for rounds in range(6)]
    assert [each.stop for each in found] == [False] * 5 + [True]
    assert [round(each.rate, 9) for each in found] == [1, 1, 1, 0.1, 0.1, 0.01]
    assert dataclasses.asdict(found[0]) == {"rate": 1.0, "stop": False}
