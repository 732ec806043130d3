"""A site's cases as training takes them: found, split by patient, prepared, in batches whose order the seed decides."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset, RandomSampler

from models.recipe import Recipe
from participant.data.ahead import ahead
from participant.data.augmentation import Augmentation
from participant.data.cache_folder import DEFAULT_LIMIT, CacheFolder
from participant.data.cases import SPLITS, Case, Split, find_cases
from participant.data.dataset import CaseDataset
from participant.data.errors import DataProblems
from participant.data.preprocessing import CTSettings, Settings, XRaySettings
from participant.data.splits import fold_cases, split_cases

log = logging.getLogger(__name__)

CROPPED_DETAIL = 2  # times the recipe's size that a film is kept at where crops are cut from it: four times the disk


class Cases(Dataset[tuple[Tensor, int]]):
    """The cases of one split, of one site or of several behind one another.

    classes: their names, in the order of the labels. subsets: stacks of slices that a CT's prediction averages over.
    """

    def __init__(self, parts: Sequence[CaseDataset], classes: tuple[str, ...], subsets: int) -> None:
        self.parts = tuple(parts)
        self.classes = classes
        self.subsets = subsets
        self._places = [(part, index) for part in self.parts for index in range(len(part))]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of each case."""
        return np.array([label for part in self.parts for label in part.labels], np.int64)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Cases of each class."""
        counts = Counter(self.labels.tolist())
        return tuple(counts[label] for label in range(len(self.classes)))

    def set_epoch(self, epoch: int) -> None:
        """From now on yield this epoch's random inputs."""
        for part in self.parts:
            part.set_epoch(epoch)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        part, place = self._places[index]
        return part[place]

    def evaluation_inputs(self, index: int) -> Tensor:
        """All inputs of a case whose mean probability is its prediction: [subsets or 1, channels, *size]."""
        part, place = self._places[index]
        return part.evaluation_inputs(place, self.subsets)


@dataclass(frozen=True)
class CaseData:
    """Cases in their splits; no patient is in two of them."""

    training: Cases
    validation: Cases
    test: Cases

    @classmethod
    def read(
        cls,
        recipe: Recipe,
        root: Path,
        cache_dir: Path,
        seed: int,
        fold: int | None = None,
        *,
        cache_limit: int = DEFAULT_LIMIT,
    ) -> CaseData:
        """Find, split and prepare the cases under `root`; what a person should know though training goes on is logged.

        Args:
            fold: which of the recipe's `evaluation.folds` parts validates, counted from 0; None for the fixed split.
            cache_limit: bytes that prepared cases may take in `cache_dir`.

        Raises:
            DataProblems: with everything that is wrong.
            ValueError: the recipe has no such fold.
        """
        found = find_cases(root, recipe.network.classes)
        for warning in found.warnings:
            log.warning("%s: %s", root, warning)
        split = _split(recipe, found.cases, str(seed), fold)
        settings = input_settings(recipe)
        augmentation = Augmentation(**recipe.training.augmentation.model_dump())
        cache = CacheFolder(cache_dir / "cases", cache_limit)
        made = {
            name: CaseDataset(split[name], settings, cache, augmentation=augmentation, seed=seed) for name in SPLITS
        }
        _prepare(root, list(made.values()))
        if recipe.preprocessing.statistics == "site" and len(made["train"]):
            mean, deviation = made["train"].statistics()
            for dataset in made.values():
                dataset.normalise_with(mean, deviation)
        subsets = recipe.preprocessing.ct.subsets if recipe.preprocessing.ct else 1
        return cls(*(Cases([made[name]], recipe.network.classes, subsets) for name in SPLITS))

    @classmethod
    def joined(cls, sites: Sequence[CaseData]) -> CaseData:
        """The cases of several sites as if one had them all; each case stays in its split, its inputs as they were."""
        return cls(
            *(_joined(splits) for splits in zip(*((s.training, s.validation, s.test) for s in sites), strict=True))
        )

    def counted(self) -> dict[str, dict[str, int]]:
        """Cases of each class, {split: {class: number}}."""
        splits = {"training": self.training, "validation": self.validation, "test": self.test}
        return {name: dict(zip(cases.classes, cases.class_counts, strict=True)) for name, cases in splits.items()}


def steps_per_epoch(cases: int, batch: int) -> int:
    """Batches in an epoch: a last one of a single case is left out, since batch norm learns nothing from it."""
    return max(1, (cases + batch - 1 - (cases % batch == 1)) // batch)


def batches(
    cases: Cases, batch: int, seed: int, *, skip: int = 0, share: tuple[int, int] = (0, 1)
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch's inputs [n, channels, *size] and labels [n], in an order that the seed decides.

    Args:
        skip: batches at its start that are left out, unread.
        share: (k, n) for the k-th of n devices, counted from 0: every n-th case of each batch, from the k-th on.

    Raises:
        DataProblems: there are no cases.
    """
    if not len(cases):
        raise DataProblems(Path("training cases"), ["there are none, and a site without any cannot train; add some"])
    cases.set_epoch(seed)
    torch.empty((), dtype=torch.int64).random_()  # as torch's DataLoader: dropout draws on as it always did
    order = RandomSampler(cases, generator=torch.Generator().manual_seed(seed))
    lone = len(cases) % batch == 1 and len(cases) > 1
    chosen = islice(BatchSampler(order, batch, drop_last=lone), skip, None)
    device, devices = share
    yield from ahead(partial(_collated, cases, each[device::devices]) for each in chosen)


def _collated(cases: Cases, places: Sequence[int]) -> tuple[Tensor, Tensor]:
    inputs, labels = zip(*(cases[place] for place in places), strict=True)
    return torch.stack(inputs), torch.tensor(labels)


def _joined(splits: Sequence[Cases]) -> Cases:
    first = splits[0]
    return Cases([part for split in splits for part in split.parts], first.classes, first.subsets)


def _split(recipe: Recipe, cases: Sequence[Case], salt: str, fold: int | None) -> Mapping[Split, tuple[Case, ...]]:
    if fold is None:
        return split_cases(cases, salt)
    if recipe.evaluation.folds is None:
        raise ValueError(f"{recipe.file} has no evaluation.folds, so there is no fold {fold}; add them")
    return fold_cases(cases, salt, recipe.evaluation.folds, fold)


def input_settings(recipe: Recipe) -> Settings:
    """How cases are prepared for this network. With `statistics = "site"` mean and std are still the recipe's here."""
    given = recipe.preprocessing
    if given.ct is None:
        height, width = recipe.input.size
        detail = CROPPED_DETAIL if recipe.training.augmentation.crop is not None else 1
        return XRaySettings((height, width), recipe.input.channels, given.mean, given.std, detail)
    depth, height, width = recipe.input.size
    ct = given.ct
    return CTSettings((depth, height, width), ct.hu_window, given.mean, given.std, ct.steps, ct.steps_up_to)


def _prepare(root: Path, datasets: Sequence[CaseDataset]) -> None:
    """Read and resize what is not in the cache yet, and tell of all unreadable cases at once."""
    total = sum(map(len, datasets))
    problems: list[str] = []
    for dataset in datasets:
        try:
            dataset.prepare()
        except DataProblems as error:
            problems += error.problems
    if problems:
        raise DataProblems(root, problems)
    log.info("%s: %d cases prepared", root, total)
