"""Updates on the disk: kept as sites train, and played back in place of training, so that runs can be compared.

FOLDER/SITE/round-N.npz        update float32 [layout.size], samples, loss, seconds
FOLDER/SITE/counts-DIGEST.npy  the recipe's counts of the model with that digest, int64
FOLDER/SITE/counts.npy         those of the model evaluated last
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crypto.canonical import sha256
from crypto.layout import Layout
from models.flatten import SavedModel, read_model, save_model
from models.recipe import Recipe
from participant.documents import Study
from participant.progress import Advance
from participant.steps.desk import Trainer, TrainerFactory, TrainResult
from participant.terms import RoundTerms
from simulation.engine.shares import weight_of
from simulation.engine.values import Federated

Vector = NDArray[np.float32]

_NEWEST: Final = "counts.npy"


@dataclass(frozen=True)
class Recording:
    """`Spec.trainers` that keeps what each site trains, under `folder`."""

    folder: Path

    def __call__(self, site: str, images: TrainerFactory) -> TrainerFactory:
        return lambda study: _Recorder(images(study), _made(self.folder / site))


@dataclass(frozen=True)
class Replaying:
    """`Spec.trainers` that gives what was recorded under `folder`. Nothing is trained, and no image is read.

    Of a model that the recorded run did not have, the counts are those of its last one.
    """

    folder: Path

    def __call__(self, site: str, images: TrainerFactory) -> TrainerFactory:
        return lambda study: _Player(self.folder / site)


@dataclass(frozen=True)
class Replayed:
    """A recorded training result on another base: its vector is the base plus the update."""

    vector: Vector
    samples: int
    loss: float
    seconds: float
    state: bytes = b""  # nothing was trained, so nothing stays at the site


class _Recorder:
    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self._trainer, self._folder = trainer, folder

    @property
    def samples(self) -> int:
        return self._trainer.samples

    def train(self, base: Vector, layout: Layout, terms: RoundTerms, progress: Advance) -> TrainResult:
        result = self._trainer.train(base, layout, terms, progress)
        figures = {"samples": result.samples, "loss": result.loss, "seconds": result.seconds}
        _save(self._folder / f"round-{terms.round}.npz", update=result.vector - base, **figures)
        return result

    def evaluate(self, base: Vector, layout: Layout, progress: Advance) -> list[int]:
        counts = self._trainer.evaluate(base, layout, progress)
        for name in (_of(base), _NEWEST):
            np.save(self._folder / name, np.array(counts, np.int64), allow_pickle=False)
        return counts


class _Player:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def samples(self) -> int:
        first = next(iter(sorted(self._folder.glob("round-*.npz"))), None)
        if first is None:
            raise FileNotFoundError(f"{self._folder} has no recorded round in it")
        return int(_load(first)["samples"])

    def train(self, base: Vector, layout: Layout, terms: RoundTerms, progress: Advance) -> TrainResult:
        found = _load(self._folder / f"round-{terms.round}.npz")
        progress(1, 1)
        return Replayed(base + found["update"], int(found["samples"]), float(found["loss"]), float(found["seconds"]))

    def evaluate(self, base: Vector, layout: Layout, progress: Advance) -> list[int]:
        known = self._folder / _of(base)
        counts: list[int] = np.load(known if known.is_file() else self._folder / _NEWEST, allow_pickle=False).tolist()
        progress(1, 1)
        return counts


class _Keeper:
    """Trains, and leaves each trained model, before averaging, in a file."""

    def __init__(self, trainer: Trainer, recipe: Recipe, file: Path) -> None:
        self._trainer, self._recipe, self._file = trainer, recipe, file

    @property
    def samples(self) -> int:
        return self._trainer.samples

    def train(self, base: Vector, layout: Layout, terms: RoundTerms, progress: Advance) -> TrainResult:
        result = self._trainer.train(base, layout, terms, progress)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        save_model(self._file, result.vector, layout, self._recipe)
        return result

    def evaluate(self, base: Vector, layout: Layout, progress: Advance) -> list[int]:
        return self._trainer.evaluate(base, layout, progress)


def keeping(file: Path, recipe: Recipe, make: TrainerFactory) -> TrainerFactory:
    """Makes what `make` makes, and keeps the model that was trained last in `file`."""

    def make_keeper(study: Study) -> Trainer:
        return _Keeper(make(study), recipe, file)

    return make_keeper


def errors_of_means(run: Federated, first: Path, recording: Path) -> dict[int, float]:
    """How far each training round's opened mean is from the float64 mean of the recorded updates, by round.

    In units of each tensor's bound, the largest over all values: the protocol promises 1e-6 for mean weights of a
    quarter and more. The models' own float32 rounding is in it.

    Args:
        first: the study's first model.

    Raises:
        ValueError: the recipe has a server optimiser, so that models do not tell means, or carries contributions.
    """
    saved = read_model(first)
    federation = saved.recipe.federation
    if federation.server.optimizer != "average" or federation.server.lr != 1 or federation.carry:
        raise ValueError("means are compared where the model is the former one plus the mean: see federation.server")
    found: dict[int, float] = {}
    means, former, loss = _Means(saved, recording), saved.vector, None
    for row in run.history:
        if row["kind"] == "training" and row["state"] == "complete":
            mean, bounds = means.of(row, former, loss)
            model = read_model(run.models[row["round"]]).vector
            found[row["round"]] = float(np.max(np.abs(model.astype(np.float64) - former - mean) / bounds))
            former, loss = model, row["metrics"]["loss"]
    return found


class _Means:
    """Means of recorded updates, round after round; what clipping cut off comes with a site's next one."""

    def __init__(self, first: SavedModel, recording: Path) -> None:
        self._recipe, self._layout, self._recording = first.recipe, first.layout, recording
        self._residuals: dict[str, NDArray[np.float64]] = {}

    def of(
        self, row: Mapping[str, Any], base: Vector, loss: float | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(mean, bounds) of one round, float64 [layout.size] each."""
        bounds = np.repeat(np.array(row["bounds"]), [tensor.size for tensor in self._layout.tensors])
        total, weights = np.zeros(bounds.size), 0.0
        for name in row["contributors"]:
            recorded = _load(self._recording / name / f"round-{row['round']}.npz")
            counts = np.load(self._recording / name / _of(base), allow_pickle=False).tolist()
            weight = weight_of(self._recipe, self._layout, int(recorded["samples"]), counts, loss)
            wanted = recorded["update"].astype(np.float64) + self._residuals.get(name, 0.0)
            sent = np.clip(wanted, -bounds / weight, bounds / weight)
            self._residuals[name] = wanted - sent
            total, weights = total + weight * sent, weights + weight
        return total / weights, bounds


def _save(file: Path, **arrays: Any) -> None:
    unfinished = file.with_name(f".{file.name}.npz")
    np.savez(unfinished, allow_pickle=False, **arrays)
    unfinished.replace(file)


def _load(file: Path) -> Mapping[str, Any]:
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _of(base: Vector) -> str:
    return f"counts-{sha256(base.tobytes())[:32]}.npy"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
