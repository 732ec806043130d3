"""What a site trains on, and in which precision and memory format: from its settings to Fabric."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import nn

from models.recipe import Recipe
from participant.optimise import Precision, Wish, precision_for
from participant.training.unfinished import EVERY


@dataclass(frozen=True, slots=True)
class Machine:
    """What a site's settings say of its machine.

    device: "auto", "cpu", "cuda" or "mps". devices: how many of them train together. threads: CPU threads for torch;
    None leaves it to torch. precision: where the recipe leaves it open. micro_batch: most cases that go through the
    network at once on each device; None takes whole batches. log_dir: where TensorBoard's files are written.
    checkpoint_seconds: what a crash may cost of a round. gpu_share: of each GPU's memory, for processes that this one
    starts.
    """

    device: str = "auto"
    devices: int = 1
    threads: int | None = None
    precision: Wish = "auto"
    micro_batch: int | None = None
    log_dir: Path | None = None
    checkpoint_seconds: float = EVERY
    gpu_share: float = 1.0


@dataclass(frozen=True, slots=True)
class Hardware:
    """What computes, chosen for a recipe."""

    fabric: Fabric
    precision: Precision
    memory_format: torch.memory_format

    @classmethod
    def chosen(cls, recipe: Recipe, machine: Machine) -> Hardware:
        """For a recipe on a machine. Several devices are several processes, and this one starts the others."""
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision at each start
        device = Fabric(accelerator=machine.device, devices=1).device
        precision = precision_for(recipe, device, machine.precision)
        fabric = Fabric(
            accelerator=machine.device,
            devices=machine.devices,
            strategy="ddp" if machine.devices > 1 else "auto",
            precision=precision,
            loggers=[TensorBoardLogger(machine.log_dir, "", "")] if machine.log_dir else [],
        )
        if machine.devices > 1:
            fabric.launch()
        return cls(fabric, precision, _memory_format(recipe))

    def joined(self, network: nn.Module) -> nn.Module:
        """The network for training: on several GPUs batch norm looks at the whole batch, as on one. torch has this for
        GPUs alone; on a CPU each process normalises its own part."""
        if self.fabric.world_size > 1 and self.fabric.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return network

    @property
    def format_name(self) -> str:
        return str(self.memory_format).removeprefix("torch.").removesuffix("_format")


def _memory_format(recipe: Recipe) -> torch.memory_format:
    """Channels last: fastest in bf16, and in float32 as fast as any (docs/benchmarks.md)."""
    if recipe.training.dp_sgd is not None:
        return torch.contiguous_format  # as Opacus' gradients of single cases lie
    return torch.channels_last_3d if recipe.input.modality == "ct" else torch.channels_last
