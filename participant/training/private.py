"""Example-level differential privacy (DP-SGD, Abadi et al. 2016) by Opacus, where the recipe has `training.dp_sgd`.

In each step every training case is drawn with the same probability, its gradient is clipped by itself, and Gaussian
noise is added to their sum. What is random here is no part of the site's seed: whoever could repeat it could take the
noise away. So a round cannot be repeated bit by bit, not even after a crash; what it promises is not touched by that.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.accountants import RDPAccountant
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.utils.data import default_collate

from crypto.sampling import fresh_key, keystream, normal
from models.recipe_sections import DpSgd
from participant.case_data import Cases
from participant.drift import Correction
from participant.files import write_whole
from participant.optimise import seed_of, weighted_loss
from participant.terms import RoundTerms
from participant.training.machine import Hardware
from participant.training.parts import Parts
from participant.training.steps import checked
from participant.training_files import NOISE

log = logging.getLogger(__name__)


@dataclass
class PrivateSteps:
    """Steps of DP-SGD on one device. batch: cases that a step draws on average."""

    hardware: Hardware
    network: nn.Module
    optimizer: torch.optim.Optimizer
    weights: Tensor | None
    parts: Parts
    promise: DpSgd
    batch: int
    corrections: Sequence[Correction] = ()
    model: Any = field(init=False)
    stepper: Any = field(init=False)

    def __post_init__(self) -> None:
        self.network.to(self.hardware.fabric.device)
        for module in self.network.modules():
            if hasattr(module, "inplace"):
                setattr(module, "inplace", False)  # noqa: B010  (the same values; Opacus needs what would be written over)
        self.model = GradSampleModule(self.network)
        self.stepper = DPOptimizer(
            self.optimizer,
            noise_multiplier=0.0,  # the noise is ours: torch's generator has a seed of 32 bits on a CPU
            max_grad_norm=self.promise.max_grad_norm,
            expected_batch_size=self.batch,
        )
        noise = _Noise(self.stepper.params, self.promise.noise_multiplier * self.promise.max_grad_norm / self.batch)
        self.corrections = [noise, *self.corrections]

    def step(self, number: int, inputs: Tensor, labels: Tensor) -> float:
        """As `Steps.step`; of a batch without a case, which the draw may give, the loss is 0."""
        total, parts = 0.0, self.parts.of(len(labels))
        self.stepper.zero_grad()
        for place, part in enumerate(parts):
            total += self._clipped(inputs[part], labels[part])
            last = place == len(parts) - 1
            self.stepper.signal_skip_step(not last)
            self.stepper.pre_step()
            if not last:
                self.stepper.zero_grad()
        for each in self.corrections:
            each.correct()
        self.optimizer.step()
        return checked(total / max(len(labels), 1))

    def _clipped(self, inputs: Tensor, labels: Tensor) -> float:
        """Leave each case's gradient in the parameters; the sum of their losses."""
        if not len(labels):
            for parameter in self.stepper.params:
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
            return 0.0
        given = inputs.to(self.hardware.fabric.device).contiguous(memory_format=self.hardware.memory_format)
        loss = weighted_loss(self.model(given), labels.to(given.device), self.weights)
        with warnings.catch_warnings():  # the first layer's input needs no gradient, and torch says so at each step
            warnings.filterwarnings("ignore", "Full backward hook is firing")
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.item() * len(labels)


class _Noise:
    """Gaussian noise of that deviation, from the operating system's randomness."""

    def __init__(self, parameters: Sequence[nn.Parameter], deviation: float) -> None:
        self._parameters, self._deviation = parameters, deviation

    def correct(self) -> None:
        key, start = fresh_key(), 0
        for parameter in self._parameters:
            drawn = normal(key, start, parameter.numel()).reshape(tuple(parameter.shape)) * self._deviation
            start += parameter.numel() + parameter.numel() % 2  # a draw begins at an even place
            if parameter.grad is not None:
                parameter.grad.add_(torch.from_numpy(drawn).to(parameter.device, parameter.dtype))


def drawn_batches(cases: Cases, rate: float, seed: int, first: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the steps from `first` on: each case is in each of them with probability `rate` (Poisson sampling).

    seed: of the cases' augmentation, which is the same for whoever knows it.
    """
    shape = tuple(cases[0][0].shape)
    for number in range(first, steps):
        cases.set_epoch(seed_of(seed, number))
        words = keystream(fresh_key(), 0, 8 * len(cases)).view("<u8")
        chosen = np.flatnonzero((words >> 11) * 2.0**-53 < rate)
        if len(chosen):
            inputs, labels = default_collate([cases[int(index)] for index in chosen])
            yield inputs, labels
        else:
            yield torch.empty((0, *shape)), torch.empty(0, dtype=torch.int64)


class NoiseAccount:
    """What of a study's training cases has been given away, over all attempts that trained: each may have left.

    Args:
        folder: of the study.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / NOISE

    def add(self, terms: RoundTerms, promise: DpSgd, rate: float, steps: int) -> float:
        """Write an attempt down, once however often it is trained, before its model leaves; epsilon with it."""
        entries: dict[str, list[float]] = json.loads(self._file.read_text()) if self._file.exists() else {}
        entries[f"{terms.round}-{terms.attempt}"] = [promise.noise_multiplier, rate, steps]
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._file, json.dumps(entries).encode())
        accountant = RDPAccountant()
        accountant.history = [(noise, share, int(count)) for noise, share, count in entries.values()]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            epsilon = float(accountant.get_epsilon(promise.delta))
        for each in said:
            log.debug("epsilon: %s", each.message)
        return epsilon
