"""A site's part of a round on its own images: train the base model, evaluate it. No image leaves this module.

What is random is drawn from the site's seed and the round, so that a round can be repeated exactly: what it changes of
the site's own state is part of its result, and kept once the round counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crypto.canonical import digest, sha256
from crypto.layout import Layout
from models.evaluation import counts_of
from models.flatten import Vector, load_local_state, load_vector, local_state, to_vector
from models.recipe import Recipe
from models.registry import build
from participant.case_data import CaseData, Cases, steps_per_epoch
from participant.drift import ControlVariates, Correction, Proximal
from participant.files import write_whole
from participant.local_state import LocalState
from participant.optimise import class_weights, frozen_norms, go_on, learning_rate, optimizer_for, seed_of, seeded
from participant.sealed import LOCAL_STATE
from participant.terms import RoundTerms
from participant.training.local_round import Progress, run, training_batches
from participant.training.machine import Hardware, Machine
from participant.training.parts import Parts
from participant.training.steps import PlainSteps, Steps, TrainingDiverged
from participant.training.unfinished import UnfinishedRound
from participant.training_files import LastRound, drop_unfinished, unfinished_file, unfinished_rounds

log = logging.getLogger(__name__)

EVALUATION_BATCH: Final = 16  # inputs in one forward pass


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


class Trainer:
    """Trains and evaluates models of one recipe on one site's cases.

    Args:
        cases: split by patient into training, validation and test cases.
        state_dir: where it keeps what stays home between rounds: local tensors, batch counts, schedule steps, its own
            control variates.
        seed: the site's, of all that is random here.
        checkpoints: folder of the files that a recipe may name: pretrained weights, own networks.
        machine: what it trains on. Several devices only in processes of their own (`participant.training.several`).
        continuous: the optimiser goes on from round to round, as where one place trains by itself. In a federation it
            starts anew with each mean, which it has not led to. Only this object knows how far it got.
        study: its id. With it, a round that a crash broke off goes on where its last checkpoint in `state_dir` is, and
            what the last round was trained on is written down there.
    """

    def __init__(
        self,
        recipe: Recipe,
        cases: CaseData,
        state_dir: Path,
        seed: int,
        *,
        checkpoints: Path | None = None,
        machine: Machine | None = None,
        continuous: bool = False,
        study: str | None = None,
    ) -> None:
        self.machine = machine or Machine()
        if self.machine.threads is not None:
            torch.set_num_threads(self.machine.threads)
        self.recipe = recipe
        self.cases = cases
        self.parts = Parts(self.machine.micro_batch)
        self._seed, self._study = seed, study
        self._checkpoints, self._folder = checkpoints, state_dir
        self._hardware = Hardware.chosen(recipe, self.machine)
        self._fabric = self._hardware.fabric
        self._weights = class_weights(recipe, cases.training.class_counts)
        self._continuous = continuous
        self._moments: dict[str, Any] | None = None  # of the optimiser, after the last round that counts
        self._new_moments: dict[str, Any] | None = None

    @property
    def leads(self) -> bool:
        """Whether this process is the one, or the first of those, that train."""
        return bool(self._fabric.is_global_zero)

    @property
    def samples(self) -> int:
        """Training cases."""
        return len(self.cases.training)

    def train(self, base: Vector, layout: Layout, terms: RoundTerms, progress: Progress) -> TrainResult:
        """The base model trained for the recipe's local epochs or steps. Nothing is kept here before `keep`.

        Raises:
            TrainingDiverged: the loss became infinite or no number.
            TooLittleMemory: not even one case fits the device.
            LayoutMismatch: the base model is not of this recipe's network.
        """
        start = time.perf_counter()
        seed, lr = seed_of(self._seed, "round", terms.round), learning_rate(self.recipe, terms)
        network = self._hardware.joined(self._network(base, layout))
        with seeded(seed):
            steps = self._steps(network, optimizer_for(network, self.recipe.training, lr), seed)
            if self._moments is not None:
                go_on(steps.optimizer, self._moments, lr)
            network.train()
            for norm in frozen_norms(network, self.recipe.network.frozen):
                norm.eval()
            proximal, variates = self._proximal(network, layout), self._variates(network, layout, base)
            steps.corrections = [*steps.corrections, *proximal, *variates]
            unfinished = self._unfinished(base, layout, terms)
            try:
                losses = run(steps, network, partial(self._batches, seed), unfinished, self.steps, progress)
            except TrainingDiverged:
                drop_unfinished(self._folder, terms.round, terms.attempt)  # it would diverge again
                raise
        self._new_moments = steps.optimizer.state_dict() if self._continuous else None
        vector, renewed = to_vector(network, layout), {}
        for each in variates:
            renewed = each.renewed(len(losses), lr)
            each.put(vector, base, renewed, terms.share)
        state = LocalState(local_state(network, layout, self.recipe.network.frozen), renewed).encode()
        result = TrainResult(vector, self.samples, fmean(losses), time.perf_counter() - start, state)
        self._write_down(terms, result, lr, losses)
        return result

    def keep(self, result: TrainResult) -> None:
        """Start the next round with what this one left at the site, as it counts."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / LOCAL_STATE, result.state)
        for number, attempt in list(unfinished_rounds(self._folder)):
            drop_unfinished(self._folder, number, attempt)
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
                inputs = split.evaluation_inputs(case).to(self._fabric.device)
                inputs = inputs.contiguous(memory_format=self._hardware.memory_format)
                pieces = [inputs[i : i + EVALUATION_BATCH] for i in range(0, len(inputs), EVALUATION_BATCH)]
                scores = torch.cat([model(piece).float() for piece in pieces])
                means[case] = scores.softmax(dim=1).mean(dim=0).clamp(0, 1).cpu().numpy()
                progress(case + 1, len(split))
        return means

    def _steps(self, network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> Steps:
        promise = self.recipe.training.dp_sgd
        if promise is None:
            return PlainSteps(self._hardware, network, optimizer, self._weights, self.parts, seed)
        from participant.training.private import PrivateSteps  # Opacus: most recipes do without

        batch = min(self.recipe.training.batch, self.samples)
        return PrivateSteps(self._hardware, network, optimizer, self._weights, self.parts, promise, batch)

    def _batches(self, seed: int, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Those of a round's steps but the first `skip`."""
        training, cases = self.recipe.training, self.cases.training
        if training.dp_sgd is None:
            share = (self._fabric.global_rank, self._fabric.world_size)
            return training_batches(cases, training.batch, self.steps, seed, skip, share)
        from participant.training.private import drawn_batches

        return drawn_batches(cases, self._rate, seed, skip, self.steps)

    @property
    def _rate(self) -> float:
        """The probability of each case to be in a step of DP-SGD."""
        return min(1.0, self.recipe.training.batch / self.samples)

    def _unfinished(self, base: Vector, layout: Layout, terms: RoundTerms) -> UnfinishedRound | None:
        """Where this very training is kept while it goes on; what is left of any other is removed."""
        if self._study is None:
            return None
        for number, attempt in list(unfinished_rounds(self._folder)):
            if (number, attempt) != (terms.round, terms.attempt) and self._fabric.is_global_zero:
                drop_unfinished(self._folder, number, attempt)
        kept, cases = self._folder / LOCAL_STATE, (case for p in self.cases.training.parts for case in p.cases)
        belongs = {
            "study": self._study,
            "terms": asdict(terms),
            "base": sha256(base.tobytes()),
            "layout": layout.digest,
            "recipe": self.recipe.digest,
            "state": sha256(kept.read_bytes()) if kept.exists() else None,
            "seed": self._seed,
            "cases": digest([[str(case.path), case.label] for case in cases]),
            "machine": [self._fabric.device.type, self._fabric.world_size, self._hardware.precision],
        }
        path = unfinished_file(self._folder, terms.round, terms.attempt)
        return UnfinishedRound(path, belongs, self.machine.checkpoint_seconds, self._fabric.is_global_zero)

    def _network(self, vector: Vector, layout: Layout) -> nn.Module:
        network = deepcopy(self._fresh)
        load_local_state(network, LocalState.read(self._folder / LOCAL_STATE).network)
        load_vector(network, layout, vector)
        network.to(memory_format=self._hardware.memory_format)  # type: ignore[call-overload]  # missing in torch's stubs
        return network

    @cached_property
    def _fresh(self) -> nn.Module:
        """The network as built: reading a checkpoint takes a while. What is local starts alike at every site."""
        recipe = self.recipe
        if not recipe.network.needs_checkpoint:
            recipe = recipe.overridden({"network.pretrained": None})
        with seeded(seed_of(0, "network", self.recipe.digest)):
            return build(recipe, folder=self._checkpoints)

    def _proximal(self, network: nn.Module, layout: Layout) -> list[Correction]:
        """What is local has nothing in common to be near to."""
        mu, shared = self.recipe.federation.proximal, {tensor.name for tensor in layout.tensors}
        near = [p for name, p in network.named_parameters() if p.requires_grad and name in shared]
        return [Proximal(near, mu)] if mu else []

    def _variates(self, network: nn.Module, layout: Layout, base: Vector) -> list[ControlVariates]:
        if not self.recipe.federation.scaffold:
            return []
        return [ControlVariates(network, layout, base, LocalState.read(self._folder / LOCAL_STATE).variates)]

    def _write_down(self, terms: RoundTerms, result: TrainResult, lr: float, losses: Sequence[float]) -> None:
        """How it was trained, and before the model leaves what all of them so far tell of a training case."""
        if not self._fabric.is_global_zero:
            return
        epsilon, training = self._epsilon(terms), self.recipe.training
        for number, loss in enumerate(losses, (terms.round - 1) * self.steps + 1):
            self._fabric.log("loss", loss, number)
        self._fabric.log_dict({"round/loss": result.loss, "round/lr": lr, "round/seconds": result.seconds}, terms.round)
        if epsilon is not None:
            self._fabric.log("round/epsilon", epsilon, terms.round)
        for logger in self._fabric.loggers:
            logger.save()
        if self._study is None:
            return
        device, hardware, at_once = self._fabric.device.type, self._hardware, self.parts.most or training.batch
        last = LastRound(
            round=terms.round,
            device=device,
            devices=self._fabric.world_size,
            precision=hardware.precision,
            memory_format=hardware.format_name,
            at_once=min(at_once, training.batch),
            seconds=result.seconds,
            epsilon=epsilon,
            delta=training.dp_sgd.delta if training.dp_sgd else None,
        )
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        last.write(self._folder)
        log.info("%s: %s", self.recipe.name, last)

    def _epsilon(self, terms: RoundTerms) -> float | None:
        promise = self.recipe.training.dp_sgd
        if promise is None:
            return None
        from participant.training.private import NoiseAccount

        return NoiseAccount(self._folder).add(terms, promise, self._rate, self.steps)
