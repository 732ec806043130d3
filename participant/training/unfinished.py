"""A round that is under way, on the disk, so that a killed agent goes on within it and ends with the same model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from crypto.canonical import digest
from participant.files import write_whole

log = logging.getLogger(__name__)

EVERY: Final = 60.0  # seconds that a crash may cost
_SHARE: Final = 20  # and no more than one part in so many of the time goes into writing
_NETWORK, _OPTIMIZER, _DRAWS, _LOSSES = "network/", "optimizer/", "draws/", "losses"


@dataclass(frozen=True)
class Checkpoint:
    """A round between two steps. losses: of the steps done, in order."""

    losses: list[float]
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, network: nn.Module, optimizer: torch.optim.Optimizer, losses: Sequence[float]) -> Checkpoint:
        """Of what changes as this network trains, and of torch's generators. Tensors are copies."""
        tensors = {_NETWORK + name: value for name, value in _changing(network).items()}
        for number, kept in optimizer.state_dict()["state"].items():
            tensors |= {f"{_OPTIMIZER}{number}/{key}": v for key, v in kept.items() if isinstance(v, Tensor)}
        tensors[_DRAWS + "cpu"] = torch.get_rng_state()
        if on_cuda():
            tensors[_DRAWS + "cuda"] = torch.cuda.get_rng_state()
        copied = {name: v.detach().to("cpu", copy=True).contiguous() for name, v in tensors.items()}
        return cls(list(losses), copied)

    def put_into(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Network and optimiser as they were, each tensor laid out in memory as it was."""
        own = network.state_dict()
        for name in _changing(network):
            own[name].copy_(self.tensors[_NETWORK + name])
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in self.tensors.items():
            if name.startswith(_OPTIMIZER):
                _, number, key = name.split("/")
                like = parameters[int(number)]
                kept = torch.empty_like(like).copy_(value) if value.shape == like.shape and like.ndim else value
                state.setdefault(int(number), {})[key] = kept
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def go_on_drawing(self) -> None:
        """Put torch's generators where they were."""
        torch.set_rng_state(self.tensors[_DRAWS + "cpu"])
        if _DRAWS + "cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors[_DRAWS + "cuda"])

    def encode(self, belongs: str) -> bytes:
        losses = {_LOSSES: torch.tensor(self.losses, dtype=torch.float64)}
        return save(dict(self.tensors) | losses, {"belongs": belongs})


class UnfinishedRound:
    """The checkpoint file of one training.

    Args:
        path: readable by its owner alone; what a crash left there of another training is of no use and overwritten.
        belongs: everything that the outcome hangs on, as JSON: study, round, attempt, base model, recipe, cases.
        every: seconds between two checkpoints; 0 writes one before each step.
        leads: whether this process writes; of several that train together one does.
    """

    def __init__(
        self,
        path: Path,
        belongs: Mapping[str, Any],
        every: float = EVERY,
        leads: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._belongs = digest(dict(belongs))
        self._every, self._leads, self._clock = every, leads, clock
        self._next = clock() + every

    def read(self) -> Checkpoint | None:
        """What a crash left of this very training; None where it left nothing, or nothing whole."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                if (file.metadata() or {}).get("belongs") != self._belongs:
                    log.info("%s is of another training, and is left aside", self.path.name)
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no iterable itself)
        except SafetensorError as error:
            log.warning("%s is damaged, the round begins again: %s", self.path.name, error)
            return None
        return Checkpoint(tensors.pop(_LOSSES).tolist(), tensors)

    def tend(self, network: nn.Module, optimizer: torch.optim.Optimizer, losses: Sequence[float]) -> None:
        """Write a checkpoint if it is time for one; it is whole on the disk, or the former one is."""
        start = self._clock()
        if not self._leads or start < self._next or not losses:
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self.path, Checkpoint.of(network, optimizer, losses).encode(self._belongs), 0o600)
        end = self._clock()
        self._next = end + max(self._every, _SHARE * (end - start)) if self._every else end


def on_cuda() -> bool:
    """Whether anything of this process is on a GPU, whose generator then draws, too."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _changing(network: nn.Module) -> dict[str, Tensor]:
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in network.state_dict().items() if name not in frozen}
