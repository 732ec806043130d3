"""A site's part of a round on its own images: train the base model, evaluate it. No image leaves this module.

What is random is drawn from the site's seed and the round, so that a round can be repeated exactly: what it changes of
the site's own state is part of its result, and kept once the round counts.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from crypto.layout import Layout
from models.evaluation import counts_of
from models.flatten import Vector, load_local_state, load_vector, local_state, to_vector
from models.recipe import Recipe
from models.registry import build
from participant.case_data import CaseData, Cases, batches, steps_per_epoch
from participant.drift import ControlVariates, Correction, Proximal
from participant.files import write_whole
from participant.local_state import LocalState
from participant.optimise import (
    class_weights,
    frozen_norms,
    learning_rate,
    optimizer_for,
    precision_for,
    seed_of,
    weighted_loss,
)
from participant.sealed import LOCAL_STATE
from participant.terms import RoundTerms

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all); may raise to end the work early."""

EVALUATION_BATCH: Final = 16  # inputs in one forward pass


class TrainingDiverged(Exception):
    """The loss is not a finite number any more."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A trained model. vector (layout.size,): all shared values; loss: mean over the steps; seconds: wall time.

    state: what this site keeps for its next round if this one counts, a safetensors file's content.
    """

    vector: Vector
    samples: int
    loss: float
    seconds: float
    state: bytes


def site_trainer(
    recipe: Recipe,
    data_root: Path,
    cache_dir: Path,
    seed: int,
    *,
    state_dir: Path | None = None,
    checkpoints: Path | None = None,
    fold: int | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Trainer:
    """The trainer of a site, its cases read from `data_root` and kept prepared in `cache_dir`.

    Args:
        state_dir: keeps what stays home between the rounds of one study; a folder of the recipe's in `cache_dir` unless
            given.
        checkpoints: as for `Trainer`.
        fold: which part of a k-fold validation validates, counted from 0; None for the fixed split.

    Raises:
        DataError: the cases cannot be read.
    """
    cases = CaseData.read(recipe, data_root, cache_dir, seed, fold)
    state_dir = state_dir or cache_dir / f"local-{recipe.digest[:16]}"
    return Trainer(recipe, cases, state_dir, seed, checkpoints=checkpoints, device=device, threads=threads)


class Trainer:
    """Trains and evaluates models of one recipe on one site's cases.

    Args:
        cases: split by patient into training, validation and test cases.
        state_dir: where it keeps what stays home between rounds: local tensors, batch counts, schedule steps, its own
            control variates.
        seed: the site's, of all that is random here.
        checkpoints: folder of the files that a recipe may name: pretrained weights, own networks.
        device: "auto", "cpu", "cuda" or "mps".
        threads: how many CPU threads torch may use; None leaves it to torch.
        continuous: the optimiser goes on from round to round, as where one place trains by itself. In a federation it
            starts anew with each mean, which it has not led to. Only this object knows how far it got.
    """

    def __init__(
        self,
        recipe: Recipe,
        cases: CaseData,
        state_dir: Path,
        seed: int,
        *,
        checkpoints: Path | None = None,
        device: str = "auto",
        threads: int | None = None,
        continuous: bool = False,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.recipe = recipe
        self.cases = cases
        self._seed = seed
        self._checkpoints = checkpoints
        self._kept = state_dir / LOCAL_STATE
        self._fabric = _fabric(recipe, device)
        self._weights = class_weights(recipe, cases.training.class_counts)
        self._continuous = continuous
        self._moments: dict[str, Any] | None = None  # of the optimiser, after the last round that counts
        self._new_moments: dict[str, Any] | None = None

    @property
    def samples(self) -> int:
        """Training cases."""
        return len(self.cases.training)

    def train(self, base: Vector, layout: Layout, terms: RoundTerms, progress: Progress) -> TrainResult:
        """The base model trained for the recipe's local epochs or steps. Nothing is kept here before `keep`.

        Raises:
            TrainingDiverged: the loss became infinite or no number.
            LayoutMismatch: the base model is not of this recipe's network.
        """
        start = time.perf_counter()
        seed, lr = seed_of(self._seed, "round", terms.round), learning_rate(self.recipe, terms)
        network = self._network(base, layout)
        with _seeded(seed):
            optimizer = optimizer_for(network, self.recipe.training, lr)
            model, optimizer = self._fabric.setup(network, optimizer)
            if self._moments is not None:
                _go_on(optimizer, self._moments, lr)
            model.train()
            for norm in frozen_norms(network, self.recipe.network.frozen):
                norm.eval()
            proximal, variates = self._proximal(network, layout), self._variates(network, layout, base)
            losses = []
            for inputs, labels in self._training_batches(seed):
                losses.append(self._step(model, optimizer, inputs, labels, [*proximal, *variates]))
                progress(len(losses), self.steps)
        self._new_moments = optimizer.state_dict() if self._continuous else None
        vector, renewed = to_vector(network, layout), {}
        for each in variates:
            renewed = each.renewed(len(losses), lr)
            each.put(vector, base, renewed, terms.share)
        state = LocalState(local_state(network, layout, self.recipe.network.frozen), renewed).encode()
        loss, seconds = math.fsum(losses) / len(losses), time.perf_counter() - start
        return TrainResult(vector, self.samples, loss, seconds, state)

    def keep(self, result: TrainResult) -> None:
        """Start the next round with what this one left at the site, as it counts."""
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._kept, result.state)
        self._moments = self._new_moments

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

    def _step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        inputs: Tensor,
        labels: Tensor,
        corrections: Sequence[Correction],
    ) -> float:
        optimizer.zero_grad()
        scores = model(self._to_device(inputs)).float()
        loss = weighted_loss(scores, labels.to(scores.device), self._weights)
        self._fabric.backward(loss)
        for each in corrections:
            each.correct()
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
        network = deepcopy(self._fresh)
        load_local_state(network, LocalState.read(self._kept).network)
        load_vector(network, layout, vector)
        network.to(memory_format=self._memory_format)  # type: ignore[call-overload]  # missing in torch's stubs
        return network

    @cached_property
    def _fresh(self) -> nn.Module:
        """The network as built: reading a checkpoint takes a while. What is local starts alike at every site."""
        recipe = self.recipe
        if not recipe.network.needs_checkpoint:
            recipe = recipe.overridden({"network.pretrained": None})
        with _seeded(seed_of(0, "network", self.recipe.digest)):
            return build(recipe, folder=self._checkpoints)

    def _proximal(self, network: nn.Module, layout: Layout) -> list[Correction]:
        """What is local has nothing in common to be near to."""
        mu, shared = self.recipe.federation.proximal, {tensor.name for tensor in layout.tensors}
        near = [p for name, p in network.named_parameters() if p.requires_grad and name in shared]
        return [Proximal(near, mu)] if mu else []

    def _variates(self, network: nn.Module, layout: Layout, base: Vector) -> list[ControlVariates]:
        if not self.recipe.federation.scaffold:
            return []
        return [ControlVariates(network, layout, base, LocalState.read(self._kept).variates)]

    def _to_device(self, inputs: Tensor) -> Tensor:
        return inputs.to(self._fabric.device).contiguous(memory_format=self._memory_format)

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last_3d if self.recipe.input.modality == "ct" else torch.channels_last


def _fabric(recipe: Recipe, device: str) -> Fabric:
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision at each start
    fabric = Fabric(accelerator=device, devices=1)
    precision = precision_for(recipe, fabric.device)
    return fabric if precision == "32-true" else Fabric(accelerator=device, devices=1, precision=precision)


def _go_on(optimizer: torch.optim.Optimizer, moments: dict[str, Any], lr: float) -> None:
    """Take over an earlier optimiser's state; the rate is the round's own."""
    optimizer.load_state_dict(moments)
    for group in optimizer.param_groups:
        group["lr"] = lr


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's global generator, from which dropout draws, starts at `seed` within, and goes on as before after it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
