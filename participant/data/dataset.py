"""Cases as a torch data set: prepared once, then one random input per case and epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from participant.data.augmentation import Augmentation
from participant.data.cache import PreparedCases
from participant.data.cache_folder import CacheFolder
from participant.data.cases import Case
from participant.data.errors import DataProblems, UnreadableCase
from participant.data.preprocessing import (
    CTSettings,
    Settings,
    prediction_subsets,
    statistics,
    training_subset,
    xray_tensor,
)


class CaseDataset(Dataset[tuple[Tensor, int]]):
    """(input, label) per case: float32 [1, depth, height, width] of a CT, [channels, height, width] of a film.

    What is random depends on `seed`, the epoch (`set_epoch`) and the case alone, not on workers or order of access.
    Items are read and prepared at first use, or all at once by `prepare`; they raise UnreadableCase.

    Args:
        settings: their type says whether the cases are CTs or films.
        cache: keeps prepared cases, best one for all data sets of a training; without it they are kept in memory.
        augmentation: applied to training inputs (`__getitem__`), never to `evaluation_inputs`.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        settings: Settings,
        cache: CacheFolder | None = None,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.cases = tuple(cases)
        self.settings = settings
        self._prepared = PreparedCases(settings, cache)
        self._augmentation = augmentation or Augmentation()
        self._seed, self._epoch = seed, 0

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def labels(self) -> tuple[int, ...]:
        """The class of each case."""
        return tuple(case.label for case in self.cases)

    def prepare(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Read and prepare every case; `progress` is called with (done, total) after each.

        Raises DataProblems naming every case that cannot be read.
        """
        problems = []
        for done, case in enumerate(self.cases, start=1):
            try:
                self._prepared.get(case.path)
            except UnreadableCase as error:
                problems.append(str(error))
            progress(done, len(self.cases))
        if problems:
            raise DataProblems(self.cases[0].path.parent, problems)

    def statistics(self) -> tuple[float, float]:
        """Mean and standard deviation over all voxels of all cases, before the z-score. Raises UnreadableCase."""
        return statistics(self._prepared.get(case.path) for case in self.cases)

    def normalise_with(self, mean: float, std: float) -> None:
        """Use this mean and standard deviation from now on (a site's own, taken from its training cases)."""
        self.settings = replace(self.settings, mean=mean, std=std)

    def set_epoch(self, epoch: int) -> None:
        """From now on yield this epoch's random inputs. Not seen by loader workers that are already running."""
        self._epoch = epoch

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        case = self.cases[index]
        rng = np.random.default_rng([self._seed, self._epoch, index])
        prepared = self._prepared.get(case.path)
        if isinstance(self.settings, CTSettings):
            return self._augmentation(training_subset(prepared, self.settings, rng), rng), case.label
        inputs = xray_tensor(prepared, self.settings, whole=self._augmentation.crop is not None)
        return self._augmentation(inputs, rng, self.settings.size), case.label

    def evaluation_inputs(self, index: int, subsets: int = 5) -> Tensor:
        """The inputs whose mean probability is the case's prediction, the same at every call.

        float32 [subsets, 1, depth, height, width] of a CT, [1, channels, height, width] of a film.
        """
        prepared = self._prepared.get(self.cases[index].path)
        if isinstance(self.settings, CTSettings):
            return prediction_subsets(prepared, self.settings, np.random.default_rng([self._seed, index]), subsets)
        return xray_tensor(prepared, self.settings)[None]
