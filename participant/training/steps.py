"""The steps of a round: one batch each, in parts where it has to be, on one device or shared among several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from participant.drift import Correction
from participant.optimise import seed_of, weighted_loss
from participant.training.machine import Hardware
from participant.training.parts import Parts, TooLittleMemory
from participant.training.unfinished import on_cuda


class TrainingDiverged(Exception):
    """The loss is not a finite number any more."""


class Steps(Protocol):
    """One way to make steps. optimizer: whose state a checkpoint keeps. corrections: made before each of its steps."""

    corrections: Sequence[Correction]

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...

    def step(self, number: int, inputs: Tensor, labels: Tensor) -> float:
        """Make the step of that number, counted from 0; the batch's mean loss before it.

        Raises:
            TrainingDiverged: it is infinite or no number.
        """


@dataclass
class PlainSteps:
    """Gradient, corrections, step. Of several devices each has its part of every batch, and all get the mean gradient.

    model, stepper: network and optimizer as Fabric sets them up. weights: of the classes.
    """

    hardware: Hardware
    network: nn.Module
    optimizer: torch.optim.Optimizer
    weights: Tensor | None
    parts: Parts
    seed: int
    corrections: Sequence[Correction] = ()
    model: Any = field(init=False)
    stepper: Any = field(init=False)

    def __post_init__(self) -> None:
        self.model, self.stepper = self.hardware.fabric.setup(self.network, self.optimizer)

    def step(self, number: int, inputs: Tensor, labels: Tensor) -> float:
        fabric = self.hardware.fabric
        if fabric.world_size > 1:  # of what each device drops nothing has to be kept for a checkpoint
            torch.manual_seed(seed_of(self.seed, "device", fabric.global_rank, number))
        loss = self._gradients(inputs, labels)
        for each in self.corrections:
            each.correct()
        self.stepper.step()
        return checked(loss)

    def _gradients(self, inputs: Tensor, labels: Tensor) -> float:
        """Leave the batch's gradients in the parameters; its loss."""
        before = _Before(self.network)
        while (loss := self._tried(inputs, labels, before)) is None:
            self.parts.halve(len(labels))
            before.restore()
        return loss

    def _tried(self, inputs: Tensor, labels: Tensor, before: _Before) -> float | None:
        """None where the device's memory is too small."""
        try:
            return self._added_up(inputs, labels, before)
        except torch.OutOfMemoryError as error:
            if self.hardware.fabric.world_size > 1:  # the others wait for this one's gradients: all begin again
                raise TooLittleMemory(str(error)) from error
        self.stepper.zero_grad()
        torch.cuda.empty_cache()
        return None

    def _added_up(self, inputs: Tensor, labels: Tensor, before: _Before) -> float:
        fabric = self.hardware.fabric
        self.stepper.zero_grad()
        cases, parts = self._over_devices(len(labels)), self.parts.of(len(labels))
        total = torch.zeros((), device=fabric.device)
        for number, part in enumerate(parts):
            if number:
                before.restore_counts()
            with fabric.no_backward_sync(self.model, enabled=number < len(parts) - 1):
                loss = self._loss(inputs[part], labels[part]) * ((part.stop - part.start) / cases)
                fabric.backward(loss * fabric.world_size)  # as gradients are averaged over the devices
            total += loss.detach()
        return self._over_devices(total.item())

    def _over_devices(self, value: float) -> float:
        """The sum of what each device has."""
        fabric = self.hardware.fabric
        if fabric.world_size == 1:
            return value
        own = torch.tensor(value, dtype=torch.float64, device=fabric.device)
        return cast(Tensor, fabric.all_reduce(own, reduce_op="sum")).item()

    def _loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        given = inputs.to(self.hardware.fabric.device).contiguous(memory_format=self.hardware.memory_format)
        scores = self.model(given).float()
        return weighted_loss(scores, labels.to(scores.device), self.weights)


class _Before:
    """What passes through a network change beside gradients, as it is before a step: buffers and torch's generators."""

    def __init__(self, network: nn.Module) -> None:
        self._buffers = [(buffer, buffer.detach().clone()) for buffer in network.buffers()]
        self._draws = torch.get_rng_state()
        self._cuda_draws = torch.cuda.get_rng_state() if on_cuda() else None

    def restore(self) -> None:
        for buffer, value in self._buffers:
            buffer.copy_(value)
        torch.set_rng_state(self._draws)
        if self._cuda_draws is not None:
            torch.cuda.set_rng_state(self._cuda_draws)

    def restore_counts(self) -> None:
        """What counts steps (batch norm, a schedule) counts one for the batch, however many parts it has."""
        for buffer, value in self._buffers:
            if not buffer.is_floating_point():
                buffer.copy_(value)


def checked(loss: float) -> float:
    """The loss.

    Raises:
        TrainingDiverged: it is infinite or no number.
    """
    if not math.isfinite(loss):
        raise TrainingDiverged(
            f"the loss became {loss}; lower training.lr in the recipe, or look for damaged cases with check-data"
        )
    return loss
