"""The DICOM series that a scan came from, without its pixels: contours refer to it, and so does what is sent back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from participant.data.orientation import from_patient_axes, turned
from participant.data.volume import Volume


@dataclass(frozen=True, eq=False)
class Series:
    """headers: of a CT's slices, in the order in which the volume was stacked before it was turned; or of one film.

    axes: the volume's `stored_axes`; "" for a film.
    """

    headers: tuple[Dataset, ...]
    axes: str

    @classmethod
    def of(cls, headers: Iterable[Dataset], volume: Volume) -> Series:
        """From the headers of a series, in any order, and the volume that was read of it."""
        found = tuple(headers)
        if volume.modality == "ct":
            found = tuple(sorted(found, key=along_normal))
        return cls(found, volume.stored_axes)

    @property
    def uids(self) -> list[str]:
        """Of the slices, in their order."""
        return [str(header.SOPInstanceUID) for header in self.headers]

    def onto_volume(self, frames: NDArray[np.generic]) -> NDArray[np.generic]:
        """Frames [slices, rows, columns], one for each header, turned as the volume is."""
        return turned(frames, self.axes) if self.axes else frames

    def onto_frames(self, volume: NDArray[np.generic]) -> NDArray[np.generic]:
        """Inverse of `onto_volume`."""
        return from_patient_axes(volume, self.axes) if self.axes else volume


def along_normal(header: Dataset) -> float:
    """Where a slice lies along the normal of its plane, in mm."""
    directions = np.array(header.ImageOrientationPatient, np.float64)
    normal = np.cross(directions[:3], directions[3:])
    return float(normal @ np.array(header.ImagePositionPatient, np.float64))


def pixel_of(header: Dataset, points: Sequence[float]) -> NDArray[np.float64]:
    """Points (x, y, z, x, ...) in mm of the patient as (column, row) of a slice: [points, 2]."""
    directions = np.array(header.ImageOrientationPatient, np.float64).reshape(2, 3)
    between_rows, between_columns = (float(mm) for mm in header.PixelSpacing)
    offsets = np.array(points, np.float64).reshape(-1, 3) - np.array(header.ImagePositionPatient, np.float64)
    return np.asarray(offsets @ directions.T / (between_columns, between_rows), np.float64)
