"""The figures by which a case is compared with the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import ndimage

from participant.data.checks.pictures import shrunk
from participant.data.volume import Modality, Volume


@dataclass(frozen=True)
class Feature:
    """name: with its unit, for people. least: a difference that is of no matter. of: the figure of a case."""

    name: str
    least: float
    of: Callable[[Volume], float]


def _share(volume: Volume, low: float, high: float) -> float:
    """Of the voxels between two values, in %."""
    return 100 * float(((volume.voxels >= low) & (volume.voxels <= high)).mean())


def _extent(volume: Volume, axis: int) -> float:
    """In mm along an axis."""
    return float(volume.voxels.shape[axis] * (volume.spacing or (1.0, 1.0, 1.0))[axis])


FEATURES: Final[Mapping[Modality, tuple[Feature, ...]]] = {
    "ct": (
        Feature("mean intensity in HU", 30, lambda ct: float(ct.voxels.mean())),
        Feature("spread of the intensities in HU", 25, lambda ct: float(ct.voxels.std())),
        Feature("share of lung and air (below -500 HU) in %", 4, lambda ct: _share(ct, -np.inf, -500)),
        Feature("share of bone and metal (above 300 HU) in %", 1, lambda ct: _share(ct, 300, np.inf)),
        Feature("height of the scan in mm", 20, lambda ct: _extent(ct, 0)),
        Feature("width of the image in mm", 20, lambda ct: _extent(ct, 2)),
    ),
    "xray": (
        Feature("mean brightness in %", 3, lambda film: 100 * float(film.voxels.mean())),
        Feature("contrast (spread of the brightness) in %", 2, lambda film: 100 * float(film.voxels.std())),
        Feature("share of black in %", 5, lambda film: _share(film, 0, 0.02)),
        Feature("share of white in %", 5, lambda film: _share(film, 0.98, 1)),
        Feature("width for a height of 1", 0.05, lambda film: film.voxels.shape[1] / film.voxels.shape[0]),
        Feature(
            "sharpness (spread of the edges) in %",
            0.5,
            lambda film: 100 * float(ndimage.laplace(shrunk(film.voxels, 256, 256)).std()),
        ),
    ),
}
