"""The trainer of a site: its cases read from its disk, on one device here or on several in processes of their own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from models.recipe import Recipe
from participant.case_data import CaseData
from participant.data.cache_folder import DEFAULT_LIMIT
from participant.training.machine import Machine
from participant.training.trainer import Trainer


@dataclass(frozen=True)
class Place:
    """Where a site trains a recipe, and on what.

    state_dir, checkpoints, machine, study: as for `Trainer`. fold: which part of a k-fold validation validates, counted
    from 0; None for the fixed split. cache_limit: bytes that prepared cases may take in `cache_dir`.
    """

    recipe: Recipe
    data_root: Path
    cache_dir: Path
    seed: int
    state_dir: Path
    checkpoints: Path | None = None
    fold: int | None = None
    cache_limit: int = DEFAULT_LIMIT
    machine: Machine = field(default_factory=Machine)
    study: str | None = None

    def cases(self) -> CaseData:
        """Read and prepare them.

        Raises:
            DataError: they cannot be read.
        """
        return CaseData.read(
            self.recipe, self.data_root, self.cache_dir, self.seed, self.fold, cache_limit=self.cache_limit
        )

    def trainer(self) -> Trainer:
        """Trains in this process; with several devices this is one of several such.

        Raises:
            DataError: the cases cannot be read.
        """
        return Trainer(
            self.recipe,
            self.cases(),
            self.state_dir,
            self.seed,
            checkpoints=self.checkpoints,
            machine=self.machine,
            study=self.study,
        )

    def on_one_device(self) -> Self:
        return replace(self, machine=replace(self.machine, devices=1))


def site_trainer(
    recipe: Recipe,
    data_root: Path,
    cache_dir: Path,
    seed: int,
    *,
    state_dir: Path | None = None,
    checkpoints: Path | None = None,
    fold: int | None = None,
    cache_limit: int = DEFAULT_LIMIT,
    machine: Machine | None = None,
    study: str | None = None,
) -> Trainer:
    """The trainer of a site, its cases read from `data_root` and kept prepared in `cache_dir`.

    Args:
        state_dir: keeps what stays home between the rounds of one study; a folder of the recipe's in `cache_dir` unless
            given.
        checkpoints, machine, study: as for `Trainer`.
        fold, cache_limit: as for `Place`.

    Raises:
        DataError: the cases cannot be read.
    """
    state_dir = state_dir or cache_dir / f"local-{recipe.digest[:16]}"
    machine = machine or Machine()
    place = Place(recipe, data_root, cache_dir, seed, state_dir, checkpoints, fold, cache_limit, machine, study)
    if machine.devices == 1:
        return place.trainer()
    from participant.training.several import SeveralDevices

    return SeveralDevices(place)
