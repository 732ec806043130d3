"""Reading a CT volume from a NIfTI file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from participant.data.errors import UnreadableCase
from participant.data.orientation import to_patient_axes
from participant.data.volume import HU_RANGE, Volume

CONVERT_AGAIN = "Convert the original DICOM series again, or leave this case out"


def read_nifti(path: Path) -> Volume:
    """The CT volume in a .nii or .nii.gz file whose values are HU. Raises UnreadableCase."""
    try:
        image: Any = nibabel.load(path)
        stored = np.asarray(image.dataobj, np.float32)
    except Exception as error:  # a damaged file makes nibabel, gzip or numpy raise nearly anything
        raise UnreadableCase(path, f"is not a readable NIfTI file ({error})", CONVERT_AGAIN) from error
    if stored.ndim == 4 and stored.shape[3] == 1:
        stored = stored[..., 0]
    if stored.ndim != 3 or stored.size == 0:
        raise UnreadableCase(path, f"holds an array of shape {stored.shape}, not one volume", CONVERT_AGAIN)
    if min(stored.shape) < 2:
        raise UnreadableCase(path, f"holds a single slice (shape {stored.shape})", "Give the whole volume")
    if not np.isfinite(stored).all():
        broken = int(stored.size - np.isfinite(stored).sum())
        raise UnreadableCase(path, f"holds {broken:,} values that are not numbers (NaN or infinite)", CONVERT_AGAIN)
    if stored.min() >= 0:
        # Air is -1000 HU, so a chest without a negative value is a mask or was rescaled.
        raise UnreadableCase(path, "has no value below 0, so it is a mask or is not in HU", "Give the volume in HU")
    affine = np.asarray(image.affine, np.float64)
    if not abs(np.linalg.det(affine[:3, :3])) > 0:
        raise UnreadableCase(path, "does not say which way its axes run (its affine is degenerate)", CONVERT_AGAIN)
    voxels, spacing, axes = to_patient_axes(stored, affine)
    return Volume(np.clip(voxels, *HU_RANGE), spacing, "ct", axes, path)
