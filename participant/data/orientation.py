"""One orientation for every CT, however its file stores it.

A network that averages many hospitals must not have to learn that one of them stores lungs upside down; and a heat map
must be laid on the right side of the patient. DICOM and NIfTI both describe the stored axes by an affine, so both come
through here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

_nibabel: Any = orientations  # has no type annotations

#: NIfTI's millimetres run right to left, back to front; DICOM's left to right, front to back.
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def to_patient_axes(
    stored: NDArray[np.float32], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32], tuple[float, float, float], str]:
    """Turn `stored` (i, j, k), with `affine` from voxels to RAS+ millimetres, to (depth, height, width).

    Axes are flipped and swapped, never resampled: an oblique scan keeps its tilt. Returns the voxels, their spacing in
    mm (depth, height, width), and the stored axes as letters.
    """
    found = _nibabel.io_orientation(affine)
    turned = _nibabel.apply_orientation(stored, _nibabel.ornt_transform(found, _nibabel.axcodes2ornt("LPS")))
    width, height, depth = (float(s) for s in _spacing(affine, found))
    letters = "".join(str(code) for code in _nibabel.ornt2axcodes(found))
    return np.ascontiguousarray(turned.transpose(2, 1, 0), np.float32), (depth, height, width), letters


def turned(frames: NDArray[Any], letters: str) -> NDArray[Any]:
    """Frames (slices, rows, columns) of a file whose stored axes are these letters, as (depth, height, width)."""
    found, wanted = _nibabel.axcodes2ornt(letters), _nibabel.axcodes2ornt("LPS")
    moved = _nibabel.apply_orientation(frames.transpose(2, 1, 0), _nibabel.ornt_transform(found, wanted))
    return np.ascontiguousarray(moved.transpose(2, 1, 0))


def from_patient_axes(voxels: NDArray[Any], letters: str) -> NDArray[Any]:
    """Inverse of `turned`: (depth, height, width) as the frames of a file with these stored axes."""
    found, wanted = _nibabel.axcodes2ornt("LPS"), _nibabel.axcodes2ornt(letters)
    moved = _nibabel.apply_orientation(voxels.transpose(2, 1, 0), _nibabel.ornt_transform(found, wanted))
    return np.ascontiguousarray(moved.transpose(2, 1, 0))


def _spacing(affine: NDArray[np.float64], found: NDArray[np.float64]) -> list[float]:
    """mm between voxels along the patient's x, y and z."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return [float(lengths[int(np.flatnonzero(found[:, 0] == axis)[0])]) for axis in range(3)]
