"""A simulated domain shift: the same patients as another hospital's equipment would have shown them, in files.

Written as files, because what differs between hospitals must pass the agents' own readers and preparation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from participant.data.readers import read_case
from participant.data.volume import HU_RANGE, Volume
from simulation.datasets.dataset import Dataset, Row
from simulation.datasets.files import made_from
from simulation.phantoms.files import write_nifti, write_png
from simulation.phantoms.geometry import Grid

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class XrayShift:
    """How a hospital's films differ; the defaults change nothing.

    gamma: exponent of the brightness; over 1 darkens. contrast: factor around the middle grey. blur: standard
    deviation, as a share of the longer side. noise: standard deviation, of the range from black to white. resolution:
    share of the pixels of a side that is left. inverted: bones dark, as films are stored that nobody turned round.
    """

    gamma: float = 1.0
    contrast: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    resolution: float = 1.0
    inverted: bool = False

    def __call__(self, film: Array, rng: np.random.Generator) -> Array:
        """The film (height, width) in [0, 1] as this hospital has it."""
        if self.blur:
            film = gaussian_filter(film, self.blur * max(film.shape))
        toned = np.clip((film**self.gamma - 0.5) * self.contrast + 0.5, 0, 1)
        noisy = (toned + rng.normal(0, self.noise, film.shape)).astype(np.float32)
        scale = self.resolution
        coarse = cv2.resize(noisy, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale != 1 else noisy
        shown: Array = np.clip(1 - coarse if self.inverted else coarse, 0, 1).astype(np.float32)
        return shown


@dataclass(frozen=True)
class CtShift:
    """How a hospital's CTs differ; the defaults change nothing.

    offset: HU by which the calibration is off. noise: standard deviation in HU. blur: standard deviation of a softer
    reconstruction, in mm in the plane of the slices.
    """

    offset: float = 0.0
    noise: float = 0.0
    blur: float = 0.0

    def __call__(self, volume: Volume, rng: np.random.Generator) -> Array:
        """The voxels (depth, height, width) in HU as this hospital has them."""
        hu = volume.voxels
        if self.blur and volume.spacing:
            hu = gaussian_filter(hu, [0.0, *(self.blur / mm for mm in volume.spacing[1:])])
        if self.noise:
            # Reconstruction correlates the noise of neighbouring pixels; it is scaled to keep its deviation.
            grain = gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (0, 0.5, 0.5))
            hu = hu + grain * np.float32(self.noise / grain.std())
        moved: Array = np.clip(hu + np.float32(self.offset), *HU_RANGE).astype(np.float32)
        return moved


Shift: TypeAlias = XrayShift | CtShift
#: A hospital as unlike the others as real ones are: dark, soft and grainy films; soft, noisy CTs with an own zero.
DISTANT_XRAY = XrayShift(gamma=1.5, contrast=0.8, blur=0.003, noise=0.02, resolution=0.5)
DISTANT_CT = CtShift(offset=40.0, noise=40.0, blur=1.2)


def shifted(dataset: Dataset, shift: Shift, folder: Path, seed: int) -> Dataset:
    """The set with its cases as `shift` shows them, in new files of `folder`: PNG films of 8 bits, NIfTI volumes.

    A case's noise depends on `seed` and its file's name, so that one more case changes no other.

    Raises:
        ValueError: films with a shift of CTs, or the other way round.
        UnreadableCase: a case cannot be read.
    """
    wanted = "ct" if isinstance(shift, CtShift) else "xray"
    if any(row.modality != wanted for row in dataset.rows):
        raise ValueError(f"a {type(shift).__name__} changes cases of modality {wanted}, and this set has others")
    return dataset.with_rows(_shifted(dataset.rows, shift, folder, seed))


def _shifted(rows: tuple[Row, ...], shift: Shift, folder: Path, seed: int) -> Iterator[Row]:
    suffix = ".nii.gz" if isinstance(shift, CtShift) else ".png"
    for row in rows:

        def write(path: Path, row: Row = row) -> None:
            own = int.from_bytes(sha256(row.path.name.encode()).digest()[:8], "big")
            rng = np.random.default_rng([seed, own])
            volume = read_case(row.path)
            if isinstance(shift, XrayShift):
                write_png(shift(volume.voxels, rng), path)
            else:
                write_volume(shift(volume, rng), volume, path)

        yield replace(row, path=made_from(row.path, folder, f"{shift!r} {seed}", suffix, write))


def write_volume(hu: Array, volume: Volume, path: Path) -> None:
    """NIfTI of `hu` with the spacing that `volume` was read with; where in space it lies is not kept."""
    depth, height, width = volume.spacing or (1.0, 1.0, 1.0)
    write_nifti(hu, Grid(hu.shape, (depth, height, width), (0.0, 0.0, 0.0)), path)
