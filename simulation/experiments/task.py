"""What a unit of an experiment is given, and what training gives back; values that travel between processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crypto.canonical import digest
from crypto.plan import SchemeName
from models.checkpoints import digest_of
from models.flatten import SavedModel
from models.recipe import Recipe
from simulation.engine.values import EngineName
from simulation.experiments.describe import Arm
from simulation.experiments.results import Point
from simulation.federation import Hospital

FIRST, MODEL, WEIGHTS = "first.safetensors", "model.safetensors", "weights.safetensors"


@dataclass(frozen=True)
class Task:
    """One arm at one seed.

    Attributes:
        recipe: with all changes.
        cohort: whose cases they are, as text. hospitals: those of it, on whose cases the models are tried; `members`:
            those of them that train.
        workers: processes that a federation's sites are spread over.
        folder: of the unit. cache: of prepared images.
        fold: which part of the cases validates, counted from 0, where a validation has several.
        start: the model that this goes on from. checkpoint: one that is taken as pretrained.
        original: of a plaintext twin, the folder of the unit that it repeats.
    """

    arm: Arm
    seed: int
    recipe: Recipe
    cohort: str
    hospitals: Sequence[Hospital]
    members: Sequence[str]
    folder: Path
    cache: Path
    scheme: SchemeName = "lwe-ckks"
    engine: EngineName = "local"
    workers: int = 1
    fold: int | None = None
    start: Path | None = None
    checkpoint: Path | None = None
    original: Path | None = None

    @property
    def name(self) -> str:
        """For bars and messages."""
        return f"{self.arm.name}, {f'fold {self.fold + 1}' if self.fold is not None else f'seed {self.seed}'}"

    @property
    def key(self) -> str:
        """A digest of what makes the unit what it is: a result of another key is another unit's."""
        files = [digest_of(file) for file in (self.start, self.checkpoint) if file is not None]
        moves = [dict(self.arm.departures), dict(self.arm.arrivals)]
        who: list[Any] = [
            self.seed,
            self.fold,
            list(self.members),
            self.cohort,
            list(self.arm.also),
            self.arm.twin_of,
            *moves,
        ]
        left_out = [list(self.arm.without)] if self.arm.without else []
        nudged = ["nudged"] if self.arm.nudged else []
        return digest([self.recipe.to_json(), self.arm.kind, self.scheme, *who, *files, *left_out, *nudged])

    @property
    def steps(self) -> int:
        """How often it says that it got on."""
        return steps(self.arm, self.recipe, len(self.members))

    @property
    def checkpoints(self) -> Path | None:
        """The folder in which trainers look for the checkpoint."""
        return self.checkpoint.parent if self.checkpoint is not None else None


@dataclass(frozen=True)
class Trained:
    """Models by name, the curve, and what they cost: seconds by phase, bytes that each site sent each round.

    contributors: of a federation, as in `UnitResult`.
    """

    models: Mapping[str, SavedModel]
    curve: Sequence[Point]
    seconds: Mapping[str, float]
    uploads: Mapping[str, Sequence[int]]
    contributors: Sequence[Sequence[str]] = ()


def steps(arm: Arm, recipe: Recipe, members: int) -> int:
    """Rounds, of each hospital where each trains by itself, and at last the examination of what was trained."""
    return 1 + recipe.federation.rounds * (members if arm.kind == "alone" else 1)
