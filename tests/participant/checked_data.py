"""Small data sets for check-data: sound ones, and what breaks them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image, ImageDraw
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from models.recipe import Recipe, load_recipe
from participant.data.checks import Finding, Report, check

CLASSES = ("normal", "pneumonia")
FILMS = load_recipe("fl-cxr-resnet18").overridden({"network.classes": list(CLASSES), "input.size": [48, 48]})
SCANS = load_recipe("ucadi").overridden(
    {"network.classes": list(CLASSES), "training.class_weights": "none", "input.size": [8, 16, 16]}
)
SIDE = 96


def chest(seed: int) -> np.ndarray:
    """A film's brightness in [0, 1]: a body with two dark lungs of its own shape, and noise. [96, 96]"""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[0:1:96j, 0:1:96j]
    film = 0.75 * np.exp(-(((across - 0.5) / 0.42) ** 8))
    for side in (0.3, 0.7):
        wide, high, shift = rng.uniform(0.11, 0.16), rng.uniform(0.24, 0.34), rng.uniform(-0.05, 0.05)
        film -= 0.5 * (((across - side) / wide) ** 2 + ((down - 0.45 - shift) / high) ** 2 < 1)
    return np.clip(film + rng.normal(0, 0.02, film.shape), 0, 1)


def write_film(path: Path, seed: int = 0, *, film: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(255 * (chest(seed) if film is None else film))).save(path)
    return path


def write_lettered(path: Path, seed: int, text: str, at: tuple[int, int] = (60, 40)) -> Path:
    """A film of 960 pixels a side with text in it."""
    image = Image.fromarray(np.uint8(255 * 0.8 * chest(seed))).resize((960, 960))
    ImageDraw.Draw(image).text(at, text, fill=255, font_size=36)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def write_dicom_film(path: Path, seed: int, **attributes: Any) -> Path:
    """As MONOCHROME2 unless another `PhotometricInterpretation` is given; the pixels stay as they are."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, generate_uid()
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), "DX"
    dataset.PatientID, dataset.PhotometricInterpretation = f"ID-{seed}", "MONOCHROME2"
    dataset.Rows = dataset.Columns = SIDE
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = np.uint16(4095 * chest(seed)).tobytes()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def write_scan(path: Path, seed: int = 0, *, slices: int = 60, mm: float = 4.0, codes: bool = True) -> Path:
    """A NIfTI of 24 x 24 voxels a slice: a body with lungs of its own size."""
    rng = np.random.default_rng(seed)
    across, back, up = np.mgrid[-1:1:24j, -1:1:24j, 0 : 1 : slices * 1j]
    voxels = np.where((across / rng.uniform(0.8, 1)) ** 2 + (back / rng.uniform(0.6, 0.9)) ** 2 < 1, 40.0, -1000.0)
    for side in (-0.42, 0.42):
        wide, deep, top = rng.uniform(0.2, 0.35), rng.uniform(0.35, 0.6), rng.uniform(0.7, 1.3)
        voxels[((across - side) / wide) ** 2 + (back / deep) ** 2 + ((up - 0.5) / top) ** 2 < 1] = -850
    voxels = (voxels + rng.normal(0, 15, voxels.shape)).astype(np.float32)
    image = nibabel.Nifti1Image(voxels, np.diag([14.0, 14.0, mm, 1.0]) if codes else None)
    image.header.set_zooms((14.0, 14.0, mm))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def write_films(root: Path, number: int = 20) -> Path:
    """A sound set: so many films of each class."""
    for place, name in enumerate(CLASSES):
        for each in range(number):
            write_film(root / name / f"{name[0]}{each:02}.png", 1000 * place + each)
    return root


def write_scans(root: Path, number: int = 16) -> Path:
    for place, name in enumerate(CLASSES):
        for each in range(number):
            write_scan(root / name / f"{name[0]}{each:02}.nii.gz", 1000 * place + each)
    return root


def found(root: Path, recipe: Recipe = FILMS) -> dict[str, Finding]:
    """Findings by kind."""
    report: Report = check(root, recipe)
    made = {finding.kind: finding for finding in report.findings}
    assert len(made) == len(report.findings)
    assert all(finding.what and finding.why and finding.fix for finding in report.findings)
    return made


def about(finding: Finding) -> set[str]:
    """The file names of a finding's cases."""
    return {note.case.rsplit("/", 1)[-1] for note in finding.cases}
