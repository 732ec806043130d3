"""Reading one case, whatever its format."""

from __future__ import annotations

from pathlib import Path

from participant.data.dicom import patient_id, read_dicom_series, read_dicom_xray
from participant.data.errors import UnreadableCase
from participant.data.images import read_image
from participant.data.nifti import read_nifti
from participant.data.volume import Volume

NIFTI = (".nii", ".nii.gz")
IMAGES = (".png", ".jpg", ".jpeg")
DICOM = (".dcm", ".dicom")


def read_case(path: Path) -> Volume:
    """Read a folder with a CT series (DICOM), a NIfTI volume, or an X-ray (PNG, JPEG, DICOM). Raises UnreadableCase."""
    name = path.name.lower()
    if path.is_dir():
        return read_dicom_series(path)
    if not path.is_file():
        raise UnreadableCase(path, "does not exist", "Correct the path, or restore the file")
    if name.endswith(NIFTI):
        return read_nifti(path)
    if name.endswith(IMAGES):
        return read_image(path)
    if name.endswith(DICOM):
        return read_dicom_xray(path)
    known = ", ".join((*NIFTI, *IMAGES, *DICOM))
    raise UnreadableCase(path, "has a format that is not read", f"Give a DICOM folder or one of {known}")


def is_case(path: Path) -> bool:
    """Whether `path` looks like a case by its name: a folder, or a file of a format that is read."""
    return path.is_dir() or path.name.lower().endswith((*NIFTI, *IMAGES, *DICOM))


def patient_of(path: Path) -> str:
    """Whose case it is: the DICOM PatientID, or the file's name where there is none. Raises UnreadableCase."""
    name = path.name.lower()
    if path.is_dir() or name.endswith(DICOM):
        return patient_id(path) or path.stem
    suffix = next((s for s in (*NIFTI[::-1], *IMAGES) if name.endswith(s)), "")
    return path.name[: len(path.name) - len(suffix)]
