"""A site's part of a round on its own images: train the base model, evaluate it. No image leaves this module.

What is random is drawn from the site's seed and the round, so that a round can be repeated exactly.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from crypto.layout import Layout
from models.evaluation import counts_of
from models.flatten import Vector, load_local_state, load_vector, local_state, to_vector
from models.recipe import Recipe
from models.registry import build
from participant.case_data import CaseData, Cases, batches, steps_per_epoch
from participant.optimise import class_weights, learning_rate, optimizer_for, precision_for, seed_of

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all); may raise to end the work early."""

EVALUATION_BATCH = 16  # inputs in one forward pass


class TrainingDiverged(Exception):
    """The loss is not a finite number any more."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A trained model. vector (layout.size,): all shared values; loss: mean over the steps; seconds: wall time."""

    vector: Vector
    samples: int
    loss: float
    seconds: float


def site_trainer(
    recipe: Recipe,
    data_root: Path,
    cache_dir: Path,
    seed: int,
    *,
    state_dir: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Trainer:
    """The trainer of a site, its cases read from `data_root` and kept prepared in `cache_dir`.

    `state_dir` keeps what stays home between the rounds of one study; `cache_dir` unless given.

    Raises:
        DataError: the cases cannot be read.
    """
    cases = CaseData.read(recipe, data_root, cache_dir, seed)
    return Trainer(recipe, cases, state_dir or cache_dir, seed, device=device, threads=threads)


class Trainer:
    """Trains and evaluates models of one recipe on one site's cases.

    Args:
        cases: split by patient into training, validation and test cases.
        state_dir: where it keeps what stays home between rounds: batch counts, schedule steps.
        seed: the site's, of all that is random here.
        device: "auto", "cpu", "cuda" or "mps".
        threads: how many CPU threads torch may use; None leaves it to torch.
    """

    def __init__(
        self,
        recipe: Recipe,
        cases: CaseData,
        state_dir: Path,
        seed: int,
        *,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.recipe = recipe
        self.cases = cases
        self._seed = seed
        self._kept = state_dir / f"local-state-{recipe.digest[:16]}.safetensors"
        self._fabric = _fabric(recipe, device)
        self._weights = class_weights(recipe, cases.training.class_counts)

    @property
    def samples(self) -> int:
        """Training cases."""
        return len(self.cases.training)

    def train(self, base: Vector, layout: Layout, round: int, progress: Progress) -> TrainResult:  # noqa: A002
        """The base model trained for the recipe's local epochs or steps.

        Raises:
            TrainingDiverged: the loss became infinite or no number.
            LayoutMismatch: the base model is not of this recipe's network.
        """
        start = time.perf_counter()
        seed = seed_of(self._seed, "round", round)
        with _seeded(seed):
            network = self._network(base, layout)
            optimizer = optimizer_for(network, self.recipe.training, learning_rate(self.recipe, round))
            model, optimizer = self._fabric.setup(network, optimizer)
            model.train()
            losses = []
            for inputs, labels in self._training_batches(seed):
                losses.append(self._step(model, optimizer, inputs, labels))
                progress(len(losses), self.steps)
        self._keep(network, layout)
        vector = to_vector(network, layout)
        return TrainResult(vector, self.samples, math.fsum(losses) / len(losses), time.perf_counter() - start)

    @property
    def steps(self) -> int:
        """Optimiser steps in a round."""
        training = self.recipe.training
        return training.local_steps or training.local_epochs * steps_per_epoch(self.samples, training.batch)

    def evaluate(self, base: Vector, layout: Layout, progress: Progress) -> list[int]:
        """The recipe's counts of a model on the validation cases, in the order of `layout.counts`."""
        split = self.cases.validation
        probabilities = self.probabilities(base, layout, split, progress)
        return counts_of(probabilities, split.labels, self.recipe.evaluation.bins)

    def probabilities(self, vector: Vector, layout: Layout, split: Cases, progress: Progress) -> NDArray[np.float32]:
        """Class probabilities [cases, classes]: the mean over a case's inputs (five subsets of a CT, as in UCADI)."""
        model = self._fabric.setup_module(self._network(vector, layout))
        model.eval()
        means = np.empty((len(split), len(self.recipe.network.classes)), np.float32)
        with torch.inference_mode():
            for case in range(len(split)):
                inputs = self._to_device(split.evaluation_inputs(case))
                pieces = [inputs[i : i + EVALUATION_BATCH] for i in range(0, len(inputs), EVALUATION_BATCH)]
                scores = torch.cat([model(piece).float() for piece in pieces])
                means[case] = scores.softmax(dim=1).mean(dim=0).clamp(0, 1).cpu().numpy()
                progress(case + 1, len(split))
        return means

    def _step(self, model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor) -> float:
        optimizer.zero_grad()
        scores = model(self._to_device(inputs)).float()
        loss = weighted_loss(scores, labels.to(scores.device), self._weights)
        self._fabric.backward(loss)
        optimizer.step()
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"the loss became {value}; lower training.lr in the recipe, or look for damaged cases with check-data"
            )
        return value

    def _training_batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """As many batches as a round has steps, epoch after epoch, each in an order of its own."""
        epochs = (batches(self.cases.training, self.recipe.training.batch, seed_of(seed, e)) for e in itertools.count())
        return itertools.islice(itertools.chain.from_iterable(epochs), self.steps)

    def _network(self, vector: Vector, layout: Layout) -> nn.Module:
        network = build(self.recipe)
        if self._kept.exists():
            load_local_state(network, load_file(self._kept))
        load_vector(network, layout, vector)
        network.to(memory_format=self._memory_format)  # type: ignore[call-overload]  # missing in torch's stubs
        return network

    def _keep(self, network: nn.Module, layout: Layout) -> None:
        """What the layout leaves out stays at the site, for its next round."""
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._kept.with_suffix(".new")
        save_file({name: value.contiguous().cpu() for name, value in local_state(network, layout).items()}, unfinished)
        unfinished.replace(self._kept)

    def _to_device(self, inputs: Tensor) -> Tensor:
        return inputs.to(self._fabric.device).contiguous(memory_format=self._memory_format)

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last_3d if self.recipe.input.modality == "ct" else torch.channels_last


def weighted_loss(scores: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Cross entropy of scores [n, classes], the mean weighted by class; 0 for a batch of nothing but weight 0."""
    if weights is None:
        return functional.cross_entropy(scores, labels)
    weights = weights.to(scores.device)
    total = functional.cross_entropy(scores, labels, weight=weights, reduction="sum")
    return total / weights[labels].sum().clamp(min=torch.finfo(weights.dtype).tiny)


def _fabric(recipe: Recipe, device: str) -> Fabric:
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision at each start
    fabric = Fabric(accelerator=device, devices=1)
    precision = precision_for(recipe, fabric.device)
    return fabric if precision == "32-true" else Fabric(accelerator=device, devices=1, precision=precision)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's global generator, from which dropout draws, starts at `seed` within, and goes on as before after it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
