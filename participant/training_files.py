"""What training leaves in a study's folder of the home beside its local state: read and removed without torch.

unfinished-ROUND-ATTEMPT.safetensors   a round that is under way, for a killed agent to go on with; a local model
last-round.json                        what the last round was trained on, and how
noise.json                             the noise in each attempt's model, where the recipe has `training.dp_sgd`
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from participant.files import write_whole

NOISE: Final = "noise.json"
_LAST: Final = "last-round.json"
_UNFINISHED: Final = re.compile(r"\.?unfinished-(\d+)-(\d+)\.safetensors(\.\d+)?")  # with what a crash left of writing


@dataclass(frozen=True, slots=True)
class LastRound:
    """How the last round was trained here. at_once: cases that went through the network together on each device.

    epsilon, delta: what all rounds so far may tell of one training case, where the recipe has `training.dp_sgd`.
    """

    round: int
    device: str
    devices: int
    precision: str
    memory_format: str
    at_once: int
    seconds: float
    epsilon: float | None = None
    delta: float | None = None

    def __str__(self) -> str:
        where = self.device if self.devices == 1 else f"{self.devices} x {self.device}"
        words = f"trained on {where} in {self.precision}, {self.memory_format}, {self.at_once} cases at once"
        if self.epsilon is not None:
            words += f"; epsilon {self.epsilon:.2f} at delta {self.delta:g} for each training case so far"
        return f"round {self.round} {words}, {self.seconds:.1f} s"

    def write(self, folder: Path) -> None:
        write_whole(folder / _LAST, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, folder: Path) -> LastRound | None:
        """None before the first round, or where the file is another version's."""
        try:
            return cls(**json.loads((folder / _LAST).read_text()))
        except (OSError, ValueError, TypeError):
            return None


def unfinished_file(folder: Path, number: int, attempt: int) -> Path:
    """Where the checkpoint of that round and attempt is kept while it trains."""
    return folder / f"unfinished-{number}-{attempt}.safetensors"


def unfinished_rounds(folder: Path) -> Iterator[tuple[int, int]]:
    """(round, attempt) of each training that left a checkpoint, or a part of one."""
    for file in folder.glob("*unfinished-*"):
        if found := _UNFINISHED.fullmatch(file.name):
            yield int(found[1]), int(found[2])


def drop_unfinished(folder: Path, number: int, attempt: int) -> None:
    """Remove the checkpoint of that round and attempt: it was sealed, or has ended."""
    for file in folder.glob(f"*unfinished-{number}-{attempt}.safetensors*"):
        file.unlink(missing_ok=True)
