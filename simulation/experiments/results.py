"""What one training of an experiment left behind: the values from which every table and picture is made.

A unit's folder holds `MODEL.npz` for each model that it gave (probabilities on labelled cases, heat maps), and
`result.json`, which is written last: a unit that has one is done.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

RESULT = "result.json"
Split: TypeAlias = Literal["test", "training", "validation"]
SPLITS: tuple[Split, ...] = get_args(Split)

Cases = Mapping[str, Mapping[str, Mapping[str, int]]]
"""{site: {split: {class: cases}}}"""


class Point(BaseModel):
    """After a round: figures on the validation cases of all hospitals that take part, whoever was asked in the round.

    Round 0 is the first model. `training_loss` is the mean over the round's steps: a federation tells nobody its sites'
    training losses, so there it is None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: int
    loss: float | None = None
    accuracy: float | None = None
    auc: float | None = None
    training_loss: float | None = None


@dataclass(frozen=True)
class Predictions:
    """A model's class probabilities [n, C] on cases with labels [n], whose they are [n], and at which site [n]."""

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    sites: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, *sites: str) -> Predictions:
        """Those of some sites' cases."""
        here = np.isin(self.sites, sites)
        return Predictions(self.probabilities[here], self.labels[here], self.patients[here], self.sites[here])


@dataclass(frozen=True)
class HeatMap:
    """Where a model looked in one test case: `image` and `heat` [*size] in [0, 1], `heat` for the class `label`.

    `given` is the probability that the model gave to that class, the true one.
    """

    label: str
    case: str
    given: float
    image: NDArray[np.float32]
    heat: NDArray[np.float32]


@dataclass(frozen=True)
class Examined:
    """A trained model on everybody's cases; training and validation cases are those of who took part."""

    test: Predictions
    training: Predictions | None = None
    validation: Predictions | None = None
    heat_maps: tuple[HeatMap, ...] = ()


@dataclass(frozen=True)
class UnitResult:
    """An arm of an experiment at one seed (or fold).

    Attributes:
        models: the trained models by name: one, named for the arm, or one a hospital where each trains alone.
        curve: after each round, by the number of rounds.
        seconds: of each phase; `upload_bytes`: what each site sent in each round.
        contributors: of a federation, the sites that were asked and summed in each completed attempt, the evaluation at
            the end included; without those that had left and were carried.
        parameters: trained values that travel; fp32_bytes: all shared tensors once, as float32.
        recipe: as JSON, changes of the arm and the scale included.
    """

    arm: str
    seed: int
    classes: tuple[str, ...]
    models: Mapping[str, Examined]
    curve: tuple[Point, ...] = ()
    cases: Cases = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    upload_bytes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    parameters: int = 0
    fp32_bytes: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    contributors: tuple[tuple[str, ...], ...] = ()

    @property
    def model(self) -> Examined:
        """The one model of an arm that gives one.

        Raises:
            ValueError: it gives several.
        """
        if len(self.models) != 1:
            raise ValueError(f"arm {self.arm} gives {len(self.models)} models, not one")
        return next(iter(self.models.values()))


class _Written(BaseModel):
    """result.json: all of a unit's result but its arrays."""

    model_config = ConfigDict(extra="forbid")

    arm: str
    seed: int
    classes: tuple[str, ...]
    models: tuple[str, ...]
    curve: tuple[Point, ...]
    cases: dict[str, dict[str, dict[str, int]]]
    seconds: dict[str, float]
    upload_bytes: dict[str, list[int]]
    parameters: int
    fp32_bytes: int
    recipe: dict[str, Any]
    contributors: tuple[tuple[str, ...], ...] = ()  # older results lack it


def write_result(result: UnitResult, folder: Path) -> None:
    """Write a unit's result; it counts as done only when all of it is on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, examined in result.models.items():
        np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **_arrays(examined))
    plain = {key: value for key, value in vars(result).items() if key != "models"}
    written = _Written.model_validate(plain | {"models": tuple(result.models)})
    unfinished = folder / f"{RESULT}.new"
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(written.model_dump_json(indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / RESULT)


def read_result(folder: Path) -> UnitResult | None:
    """A unit's result, or None where it is not done."""
    path = folder / RESULT
    if not path.exists():
        return None
    written = _Written.model_validate_json(path.read_bytes())
    plain = {name: getattr(written, name) for name in _Written.model_fields if name != "models"}
    return UnitResult(models={name: _examined(folder / f"{name}.npz") for name in written.models}, **plain)


def _arrays(examined: Examined) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for split, predictions in ((split, getattr(examined, split)) for split in SPLITS):
        if predictions is not None:
            arrays |= {f"{split}.{key}": value for key, value in vars(predictions).items()}
    for number, found in enumerate(examined.heat_maps):
        # Half precision is finer than any screen, and these are most of the bytes.
        arrays |= {f"heat.{number}.{key}": np.asarray(value) for key, value in vars(found).items()}
        arrays |= {f"heat.{number}.{key}": getattr(found, key).astype(np.float16) for key in ("image", "heat")}
    return arrays


def _examined(path: Path) -> Examined:
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    fields = ("probabilities", "labels", "patients", "sites")
    splits = {
        split: Predictions(*(arrays[f"{split}.{key}"] for key in fields))
        for split in SPLITS
        if f"{split}.labels" in arrays
    }
    numbers = sorted({int(key.split(".")[1]) for key in arrays if key.startswith("heat.")})
    return Examined(**splits, heat_maps=tuple(_heat_map(arrays, number) for number in numbers))


def _heat_map(arrays: Mapping[str, NDArray[Any]], number: int) -> HeatMap:
    found = {key: arrays[f"heat.{number}.{key}"] for key in ("label", "case", "given", "image", "heat")}
    image, heat = (found[key].astype(np.float32) for key in ("image", "heat"))
    return HeatMap(str(found["label"]), str(found["case"]), float(found["given"]), image, heat)
