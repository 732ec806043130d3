"""From a volume as read to what a network takes.

CT as UCADI published it (doi:10.1101/2020.05.10.20096073): HU clipped to a window, slices resized, z-scored, and from
each volume subsets of `depth` slices, one at random in training and five averaged for a prediction.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from participant.data.volume import Volume


@dataclass(frozen=True)
class CTSettings:
    """How a CT is prepared. size: (depth, height, width). hu_window: lowest and highest HU kept.

    mean, std: the z-score, of the clipped HU; the defaults are the published ones, a site may give its own.
    steps: a subset takes every n-th slice, `steps[i]` in volumes of up to `steps_up_to[i]` slices, the last in larger.
    """

    size: tuple[int, int, int] = (16, 128, 128)
    hu_window: tuple[float, float] = (-1200.0, 600.0)
    mean: float = -604.229
    std: float = 489.422
    steps: tuple[int, ...] = (1, 2, 5)
    steps_up_to: tuple[int, ...] = (80, 160)


@dataclass(frozen=True)
class XRaySettings:
    """How a film is prepared. size: (height, width). mean, std: of the [0, 1] range; the grey mean and deviation of the
    images that torchvision's networks were first trained with. detail: it is kept at so many times the size, so that
    parts which are cut out for training are as sharp as whole films are."""

    size: tuple[int, int] = (224, 224)
    channels: int = 3
    mean: float = 0.449
    std: float = 0.226
    detail: int = 1

    @property
    def kept(self) -> tuple[int, int]:
        """(height, width) of a prepared film."""
        return self.size[0] * self.detail, self.size[1] * self.detail


Settings: TypeAlias = CTSettings | XRaySettings


def prepare_ct(volume: Volume, settings: CTSettings) -> NDArray[np.float16]:
    """All slices of a CT, clipped and resized: (slices, height, width) in HU.

    Not yet z-scored, so that a cache of it serves any mean and std. float16 keeps whole HU up to 2,048, so rounding
    stays far below a scanner's noise. Shrinking averages over the pixels it merges (antialiasing).
    """
    low, high = settings.hu_window
    clipped = np.clip(volume.voxels, low, high)
    return np.asarray(_resize(clipped, settings.size[1:]), np.float16)


def prepare_xray(volume: Volume, settings: XRaySettings) -> NDArray[np.float16]:
    """A film resized to `settings.kept`, in [0, 1].

    The film is stretched, as the published pipelines do: borders that keep its aspect would tell the network which
    hospital's film format it sees, and cropping would cut the recesses of the lungs.
    """
    return np.asarray(np.clip(_resize(volume.voxels[None], settings.kept)[0], 0, 1), np.float16)


def _resize(slices: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    stacked = torch.from_numpy(np.ascontiguousarray(slices, np.float32))[:, None]
    resized = interpolate(stacked, size=size, mode="bilinear", antialias=True, align_corners=False)
    return np.asarray(resized[:, 0].numpy(), np.float32)


def slice_step(slices: int, settings: CTSettings) -> int:
    """A subset of a volume of that many slices takes every how manieth; as set, or less where that would not fit."""
    step = settings.steps[bisect_left(settings.steps_up_to, slices)]
    return max(1, min(step, (slices - 1) // max(1, settings.size[0] - 1)))


def _subset(prepared: NDArray[np.float16], settings: CTSettings, rng: np.random.Generator) -> NDArray[np.float16]:
    slices, depth = len(prepared), settings.size[0]
    if slices < depth:
        # Stretched by repeating slices evenly: padding with air would look like a chest that ends.
        return prepared[np.arange(depth) * slices // depth]
    step = slice_step(slices, settings)
    start = int(rng.integers(0, slices - (depth - 1) * step))
    return prepared[start : start + (depth - 1) * step + 1 : step]


def _normalised(values: NDArray[np.float16], mean: float, std: float) -> Tensor:
    """By numpy and in place: torch would start a team of threads in each of those that load ahead."""
    wide = values.astype(np.float32)
    wide -= mean
    wide /= std
    return torch.from_numpy(wide)


def training_subset(prepared: NDArray[np.float16], settings: CTSettings, rng: np.random.Generator) -> Tensor:
    """One random subset of a prepared CT, z-scored: float32 [1, depth, height, width]."""
    return _normalised(_subset(prepared, settings, rng), settings.mean, settings.std)[None]


def prediction_subsets(
    prepared: NDArray[np.float16], settings: CTSettings, rng: np.random.Generator, count: int = 5
) -> Tensor:
    """`count` random subsets of a prepared CT: float32 [count, 1, depth, height, width].

    The case's prediction is the mean of their probabilities. A generator with the same seed gives the same subsets.
    """
    return torch.stack([training_subset(prepared, settings, rng) for _ in range(count)])


def xray_tensor(prepared: NDArray[np.float16], settings: XRaySettings, *, whole: bool = False) -> Tensor:
    """A prepared film, normalised, the grey repeated in each channel: float32 [channels, height, width].

    Of the recipe's size, or with `whole` as large as it is kept.
    """
    if settings.detail > 1 and not whole:
        prepared = _resize(np.asarray(prepared, np.float32)[None], settings.size)[0].astype(np.float16)
    return _normalised(prepared, settings.mean, settings.std).expand(settings.channels, -1, -1).clone()


def statistics(prepared: Iterable[NDArray[np.float16]]) -> tuple[float, float]:
    """Mean and standard deviation over all voxels of prepared cases: a site's own z-score. At least one case."""
    count, total, squares = 0, 0.0, 0.0
    for values in prepared:
        wide = np.asarray(values, np.float64)
        count, total, squares = count + wide.size, total + float(wide.sum()), squares + float((wide**2).sum())
    mean = total / count
    return mean, math.sqrt(max(squares / count - mean**2, 0.0))
