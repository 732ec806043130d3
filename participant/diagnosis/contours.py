"""What radiologists outlined, as a mask on the scan's own voxels: DICOM SEG, RTSTRUCT, or a NIfTI mask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import highdicom
import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from participant.data.orientation import to_patient_axes
from participant.data.readers import NIFTI
from participant.diagnosis.intake import Scan
from participant.diagnosis.series import Series, along_normal, pixel_of
from participant.policy import Refused

Mask = NDArray[np.bool_]
_nibabel: Any = nibabel  # has no type annotations
_NEAR: Final = 0.5  # of the distance between slices: a contour further off belongs to none


def mask_of(files: Sequence[Path], scan: Scan) -> Mask | None:
    """All that the files outline, together: bool, of the volume's shape; None without files.

    Raises:
        Refused: a file that cannot be read, or that is not of this scan.
    """
    masks = []
    for number, file in enumerate(files, start=1):
        try:
            masks.append(_one(file, scan))
        except Refused:
            raise
        except Exception as error:  # damaged files make the readers raise nearly anything
            words = f"contours {number} cannot be read ({error}): give DICOM SEG, RTSTRUCT or a NIfTI mask"
            raise Refused("bad-contours", words) from error
    return np.logical_or.reduce(masks) if masks else None


def _one(file: Path, scan: Scan) -> Mask:
    if file.name.lower().endswith(NIFTI):
        mask = _of_nifti(file)
    elif scan.series is None:
        raise Refused("bad-contours", "DICOM contours refer to a DICOM series, and the scan is none: give a NIfTI mask")
    elif (dataset := pydicom.dcmread(file)).Modality == "RTSTRUCT":
        mask = scan.series.onto_volume(_of_structures(dataset, scan.series)).astype(bool)
    else:
        mask = scan.series.onto_volume(_of_segments(file, scan.series)).astype(bool)
        mask = mask if scan.series.axes else mask[0]  # a film is one frame
    if mask.shape != scan.volume.voxels.shape:
        words = f"the contours are on a grid of {mask.shape}, the scan of {scan.volume.voxels.shape} voxels"
        raise Refused("other-grid", f"{words}: give contours that were drawn on this scan")
    return mask


def _of_nifti(file: Path) -> Mask:
    image = _nibabel.load(file)
    return to_patient_axes(np.asarray(image.dataobj, np.float32), np.asarray(image.affine, np.float64))[0] > 0


def _of_segments(file: Path, series: Series) -> Mask:
    """[slices, rows, columns]: what any segment covers."""
    frames = highdicom.seg.segread(file).get_pixels_by_source_instance(
        series.uids, assert_missing_frames_are_empty=True, ignore_spatial_locations=True
    )
    return np.asarray(frames.any(axis=-1))


def _of_structures(dataset: Dataset, series: Series) -> Mask:
    """[slices, rows, columns]: inside of any closed contour; one within another is a hole, as the standard has it."""
    size = int(series.headers[0].Rows), int(series.headers[0].Columns)
    heights = np.array([along_normal(header) for header in series.headers])
    gap = float(np.median(np.diff(heights))) if len(heights) > 1 else 1.0
    mask = np.zeros((len(heights), *size), bool)
    for structure in dataset.ROIContourSequence:
        drawn: dict[int, Mask] = defaultdict(lambda: np.zeros(size, bool))
        for contour in structure.get("ContourSequence") or ():
            points = [float(value) for value in contour.ContourData]
            number = _slice_at(series.headers[0], points, heights)
            if abs(number[1]) <= _NEAR * gap:
                drawn[number[0]] ^= _inside(pixel_of(series.headers[number[0]], points), size)
        for place, inside in drawn.items():
            mask[place] |= inside
    return mask


def _slice_at(header: Dataset, points: Sequence[float], heights: NDArray[np.float64]) -> tuple[int, float]:
    """The slice nearest to a contour's first point, and how far off it lies in mm."""
    at = Dataset()
    at.ImageOrientationPatient, at.ImagePositionPatient = header.ImageOrientationPatient, list(points[:3])
    offsets = heights - along_normal(at)
    nearest = int(np.abs(offsets).argmin())
    return nearest, float(offsets[nearest])


def _inside(corners: NDArray[np.float64], size: tuple[int, int]) -> Mask:
    image = Image.new("1", (size[1], size[0]))
    ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in corners], fill=1)
    return np.asarray(image, bool)
