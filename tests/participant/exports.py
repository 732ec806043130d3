"""Exports as archives make them: small DICOM series and films, of patients with all that may not be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, generate_uid
from typer.testing import CliRunner, Result

from participant.cli import app
from simulation.phantoms.files import PatientLabel, write_dicom_series
from simulation.phantoms.geometry import Grid

SLICES = 16
MARK = "GEHEIM"  # in all that names the patient, the day, or the place


def command(*arguments: Any, code: int = 0) -> str:
    """What `pleura-participant` answers."""
    result: Result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def made_home(folder: Path) -> Path:
    command("init", "--home", folder / "home", "--name", "north", "--coordinator", "http://127.0.0.1:9",
            "--data", folder / "data")  # fmt: skip
    return folder / "home"


def write_series(
    folder: Path, number: int = 0, *, slices: int = SLICES, size: int = 16, label: int = 0, **changes: Any
) -> list[Path]:
    """A series of patient P-`number`, with a dense slab where the class `label` of small_volumes has one."""
    hu = np.random.default_rng(number).normal(-800, 30, (slices, size, size))
    hu[(np.s_[:, 9:, :], np.s_[:, :7, :], np.s_[:, :, 9:])[label]] += 700
    grid = Grid(hu.shape, (4.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    write_dicom_series(hu, grid, folder, PatientLabel(f"P-{number}", "F", 61), "scanner", number)
    paths = sorted(folder.glob("IM*.dcm"))
    change(paths, AccessionNumber=f"A-{number}", **changes)
    return paths


def write_film(path: Path, number: int = 0, **changes: Any) -> Path:
    """A chest film in DICOM of patient P-`number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (template,) = write_series(path.parent / ".made", number, slices=1)
    dataset = pydicom.dcmread(template)
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.Modality, dataset.ImageType, dataset.ViewPosition = "DX", ["ORIGINAL", "PRIMARY"], "PA"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.save_as(path)
    template.unlink()
    template.parent.rmdir()
    change([path], **changes)
    return path


def change(paths: list[Path], **changes: Any) -> None:
    """Set attributes of files; None deletes one."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        for name, value in changes.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)
        dataset.save_as(path)


def name_the_patient(paths: list[Path]) -> None:
    """Write who, when and where into every kind of place that there is for it."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID = f"{MARK}^ANNA", f"{MARK}-1"
        dataset.OtherPatientIDs, dataset.PatientAddress = f"{MARK}-2", f"{MARK} street"
        dataset.InstitutionName, dataset.ReferringPhysicianName = f"St. {MARK}", f"DR^{MARK}"
        dataset.StudyDescription, dataset.SeriesDescription = f"chest {MARK}", f"lung {MARK}"
        dataset.StudyID, dataset.AccessionNumber, dataset.StationName = MARK, f"{MARK}-3", MARK
        dataset.ImageComments, dataset.DeviceSerialNumber = MARK, MARK
        dataset.private_block(0x0029, MARK, create=True).add_new(0x01, "LO", f"of {MARK}")
        step = Dataset()
        step.ScheduledProcedureStepDescription = MARK
        dataset.RequestAttributesSequence = [step]
        dataset.add_new(0x60003000, "OW", MARK.encode() * 2)
        dataset.save_as(path)
