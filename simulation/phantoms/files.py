"""Writing phantoms as hospitals store images: a DICOM series with file names in no order, NIfTI, PNG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from simulation.phantoms.geometry import Field, Grid

_nibabel: Any = nibabel  # its types leave out Nifti1Image's arguments
AIR_STORED = -1024  # the intercept: what a stored 0 means


@dataclass(frozen=True)
class PatientLabel:
    """What a DICOM header says about whom it shows. sex is M or F, age in years."""

    identifier: str
    sex: str
    age: int


def write_dicom_series(hu: Field, grid: Grid, folder: Path, label: PatientLabel, scanner: str, seed: int) -> None:
    """Write `hu` (depth, height, width), HU from -1024 to 3071, as one CT Image Storage file per slice of `folder`.

    Identifiers follow from `seed` and the label, so the same phantom is the same bytes. File names are shuffled: order
    must come from the positions, as in archives that name files by identifier.
    """
    folder.mkdir(parents=True, exist_ok=True)
    slices = len(hu)
    stored = np.clip(np.rint(hu) - AIR_STORED, 0, 4095).astype("<u2")
    names = np.random.default_rng(seed).permutation(slices)
    header = _series_header(hu.shape, grid, label, scanner, seed)
    entropy = f"{label.identifier}/{seed}"
    for index in range(slices):
        _write_slice(header, stored[index], index, grid, folder / f"IM{names[index]:04d}.dcm", entropy)


def _series_header(shape: tuple[int, ...], grid: Grid, label: PatientLabel, scanner: str, seed: int) -> Dataset:
    """What all slices of a series say alike (PS3.3 A.3, CT Image IOD)."""
    entropy = f"{label.identifier}/{seed}"
    header = Dataset()
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.SOPClassUID = CTImageStorage
    header.StudyInstanceUID = generate_uid(entropy_srcs=[entropy, "study"])
    header.SeriesInstanceUID = generate_uid(entropy_srcs=[entropy, "series"])
    header.FrameOfReferenceUID = generate_uid(entropy_srcs=[entropy, "frame"])
    header.StudyDate, header.StudyTime = "20200301", "120000"
    header.AccessionNumber, header.StudyID = "", "1"
    header.ReferringPhysicianName, header.PositionReferenceIndicator = "", ""
    header.Modality, header.Manufacturer, header.ManufacturerModelName = "CT", "Pleura", "phantom"
    header.StationName, header.SeriesDescription, header.BodyPartExamined = scanner[:16], "synthetic chest", "CHEST"
    header.PatientName, header.PatientID = label.identifier, label.identifier
    header.PatientSex, header.PatientAge, header.PatientBirthDate = label.sex, f"{label.age:03d}Y", ""
    header.PatientPosition, header.KVP, header.SliceThickness = "HFS", "120", f"{grid.spacing[0]:.6g}"
    header.SeriesNumber, header.AcquisitionNumber = "1", "1"
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.PixelSpacing = [f"{grid.spacing[1]:.10g}", f"{grid.spacing[2]:.10g}"]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = shape[1], shape[2]
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = str(AIR_STORED), "1", "HU"
    header.WindowCenter, header.WindowWidth = "-600", "1500"
    return header


def _write_slice(header: Dataset, stored: NDArray[np.uint16], index: int, grid: Grid, path: Path, entropy: str) -> None:
    z, y, x = grid.origin
    header.SOPInstanceUID = generate_uid(entropy_srcs=[entropy, str(index)])
    header.InstanceNumber = str(index + 1)
    position = z + index * grid.spacing[0]
    header.ImagePositionPatient = [f"{value:.10g}" for value in (x, y, position)]
    header.SliceLocation = f"{position:.10g}"
    header.PixelData = stored.tobytes()
    header["PixelData"].VR = "OW"
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.save_as(path, enforce_file_format=True)


def write_nifti(hu: Field, grid: Grid, path: Path) -> None:
    """Write `hu` (depth, height, width) as NIfTI with axes towards left, front and head, as converters do."""
    z, y, x = grid.origin
    affine = np.diag([-grid.spacing[2], grid.spacing[1], grid.spacing[0], 1.0])
    affine[:3, 3] = [-x, -(y + (hu.shape[1] - 1) * grid.spacing[1]), z]
    turned = np.rint(hu).astype(np.int16)[:, ::-1].transpose(2, 1, 0)
    _nibabel.save(_nibabel.Nifti1Image(turned, affine), path)


def write_png(film: Field, path: Path) -> None:
    """Write a film (height, width) in [0, 1] as a grey PNG of 8 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(np.clip(film, 0, 1) * 255).astype(np.uint8)).save(path)
