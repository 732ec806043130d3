"""CTs cut into slabs that pass for cases, to try a pipeline on a few patients.

Slabs of one patient are near-copies of each other. They keep the patient's name, so that they stay at one hospital and
in one split, unless one asks for more hospitals or splits than patients (`apart`): then a test on them tests nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom

from participant.data.errors import UnreadableCase
from simulation.datasets.dataset import Dataset, Row
from simulation.datasets.files import made_from

_nibabel: Any = nibabel  # its types leave out slicer
WARNING = "Slabs of a few patients' CTs pass for cases: whatever is measured here is no accuracy."


def cut_into_slabs(dataset: Dataset, folder: Path, slices: int = 16, *, apart: bool = False) -> Dataset:
    """Every CT of the set in runs of `slices` neighbouring slices, from the feet upwards; what is left over is dropped.

    A slab of a DICOM series is a folder of links to its slices, one of a NIfTI volume a new file. `apart` makes each
    slab a patient of its own, so that three patients can be dealt out to many hospitals.

    Raises:
        UnreadableCase: a slice does not say where it lies.
    """
    rows = []
    for row in dataset.rows:
        paths = _series_slabs(row, folder, slices) if row.path.is_dir() else _nifti_slabs(row, folder, slices)
        for number, path in enumerate(paths, 1):
            part = f"slab-{number:02}"
            patient = f"{row.patient}-{part}" if apart else row.patient
            rows.append(replace(row, path=path, part=part, patient=patient))
    warning = f"{WARNING} {dataset.terms.warning}".strip()
    return replace(dataset.with_rows(rows), terms=replace(dataset.terms, warning=warning))


def _series_slabs(row: Row, folder: Path, slices: int) -> Iterator[Path]:
    ordered = sorted((file for file in row.path.iterdir() if not file.name.startswith(".")), key=_height)
    for number, start in enumerate(range(0, len(ordered) - slices + 1, slices), 1):
        slab = folder / row.label / row.path.name / f"{slices}-slices-{number:02}"
        slab.mkdir(parents=True, exist_ok=True)
        for file in ordered[start : start + slices]:
            link = slab / file.name
            if not link.is_symlink():
                link.symlink_to(file.resolve())
        yield slab


def _height(file: Path) -> float:
    """Where a slice lies along the patient, in mm towards the head."""
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["ImagePositionPatient"])
        return float(header.ImagePositionPatient[2])
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise UnreadableCase(file, "does not say where the slice lies", "Leave this series out") from error


def _nifti_slabs(row: Row, folder: Path, slices: int) -> Iterator[Path]:
    volume = _nibabel.load(row.path)
    orientation = _nibabel.orientations.io_orientation(volume.affine)
    axis = int(np.flatnonzero(orientation[:, 0] == 2)[0])  # the stored axis that runs along the patient
    starts = list(range(0, volume.shape[axis] - slices + 1, slices))
    for start in starts if orientation[axis, 1] > 0 else reversed(starts):
        inside = [slice(None)] * 3
        inside[axis] = slice(start, start + slices)
        part = volume.slicer[tuple(inside)]
        yield made_from(
            row.path,
            folder / row.label,
            f"slices {start} to {start + slices}",
            ".nii.gz",
            lambda path, part=part: _nibabel.save(part, path),  # type: ignore[misc]
        )
