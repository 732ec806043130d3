"""A model of nothing but numbers, and sites that train it by adding noise: to see what many sites cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crypto.layout import Layout, Tensor
from models.flatten import recipe_counts, save_model
from models.recipe import Recipe
from participant.progress import Advance
from participant.steps.desk import Trainer, TrainerFactory
from participant.terms import RoundTerms

_DEVIATION = np.float32(0.01)  # of an update's values; bounds are 1
_CASES = 100  # of each site


@dataclass(frozen=True)
class Result:
    """A trained model: the base and noise."""

    vector: NDArray[np.float32]
    samples: int = _CASES
    loss: float = 0.0
    seconds: float = 0.0
    state: bytes = b""


@dataclass(frozen=True)
class StandIn:
    """A site's trainer. Its noise depends on the site and the round alone."""

    site: str
    samples: int = _CASES

    def train(self, base: NDArray[np.float32], layout: Layout, terms: RoundTerms, progress: Advance) -> Result:
        rng = np.random.default_rng([*self.site.encode(), terms.round])
        progress(1, 1)
        return Result(base + rng.standard_normal(layout.size, np.float32) * _DEVIATION)

    def evaluate(self, base: NDArray[np.float32], layout: Layout, progress: Advance) -> list[int]:
        """One case in every count, whatever it counts: not a result to look at."""
        progress(1, 1)
        return [1] * layout.counts_size


@dataclass(frozen=True)
class StandIns:
    """`Spec.trainers` under which nothing is trained and no image is read."""

    def __call__(self, site: str, images: TrainerFactory) -> TrainerFactory:
        def make(study: object) -> Trainer:
            return StandIn(site)

        return make


def save_stand_in(path: Path, recipe: Recipe, parameters: int) -> None:
    """A first model of so many parameters, in the place of the recipe's network; whole or not at all."""
    layout = Layout((Tensor("stand-in", (parameters,), "parameter"),), recipe_counts(recipe))
    save_model(path, np.zeros(parameters, np.float32), layout, recipe)
