"""What a reader returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Modality: TypeAlias = Literal["ct", "xray"]

#: What a CT scanner's 12 bits hold. Padding outside the scanned circle (often -2000 or -3024) and the overshoot of a
#: resampling spline lie outside, mean nothing, and would shift every mean, so readers clip to it.
HU_RANGE = (-1024.0, 3071.0)


@dataclass(frozen=True, eq=False)
class Volume:
    """One case as read.

    voxels: float32. A CT is (depth, height, width) in HU, clipped to HU_RANGE, with axes running from the feet to the
    head, from the front to the back and from the patient's right to the left (DICOM's patient directions, and what a
    viewer shows). An X-ray is (height, width) in [0, 1], dense tissue bright.
    spacing: mm between voxels, per axis; None for image files, which do not say.
    stored_axes: the directions in which the file stored columns, rows and slices (nibabel's letters: "LPS" is towards
    left, back and head); "" for X-rays.
    """

    voxels: NDArray[np.float32]
    spacing: tuple[float, ...] | None
    modality: Modality
    stored_axes: str
    source: Path
