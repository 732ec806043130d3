"""What an exported file computes, and inputs to try it on."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.recipe import Recipe

INPUTS: Final = "inputs"
OUTPUTS: Final = ("probabilities", "scores")

Inputs = NDArray[np.float32]
"""[batch, channels, *size], prepared as the recipe says."""


class Predictor(nn.Module):
    """(probabilities, scores), both [batch, classes], of inputs [batch, channels, *size].

    Scores are the network's own (logits); probabilities their softmax. A CT's prediction is the mean of the
    probabilities of its subsets.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.network(inputs)
        return scores.softmax(dim=1), scores


def trial_inputs(recipe: Recipe) -> list[Inputs]:
    """Batches of one and of two on which files are checked: noise, and what images can be as prepared.

    Those are one of noise between the darkest value and the brightest, and one that rises evenly from one to the other.
    """
    shape = (recipe.input.channels, *recipe.input.size)
    darkest, brightest = prepared_range(recipe)
    rising = np.linspace(darkest, brightest, int(np.prod(recipe.input.size)), dtype=np.float32)
    even = np.broadcast_to(rising.reshape(recipe.input.size), shape)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(1, *shape)).astype(np.float32)
    grain = rng.uniform(darkest, brightest, shape).astype(np.float32)
    return [noise, np.stack([grain, even])]


def prepared_range(recipe: Recipe) -> tuple[float, float]:
    """The least and the greatest value of a prepared input."""
    given = recipe.preprocessing
    low, high = given.ct.hu_window if given.ct is not None else (0.0, 1.0)
    return (low - given.mean) / given.std, (high - given.mean) / given.std


def scores_of(predictor: nn.Module, inputs: Inputs) -> Inputs:
    """The scores [batch, classes] that a module with `Predictor`'s outputs gives."""
    with torch.inference_mode():
        return np.asarray(predictor(torch.from_numpy(np.ascontiguousarray(inputs)))[1].numpy(), np.float32)
