"""Reading DICOM: a folder with one CT series, or one X-ray file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from participant.data.errors import UnreadableCase
from participant.data.orientation import RAS_FROM_LPS, to_patient_axes
from participant.data.volume import HU_RANGE, Volume

# Many scanners break rules of no matter here, and pydicom's warnings would print values of patients into logs.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

XRAY_MODALITIES = ("CR", "DX", "RG", "RF")
#: Rounded positions differ by a few hundredths of a mm; a lost slice makes a gap of twice the usual.
LARGEST_GAP = 1.5
IMAGE = ("SOPClassUID", "SeriesInstanceUID", "Rows")
NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
LOOKED_AT = (
    *("Modality", "ImageType", "NumberOfFrames", "Columns"),
    *("PhotometricInterpretation", "ImagerPixelSpacing", "PatientID"),
)
EXPORT_AGAIN = "Export the series again from the archive, or leave this case out"


@dataclass(frozen=True)
class _Slice:
    """What a slice's header says that a volume is built from; mm, in DICOM's patient directions."""

    path: Path
    series: str
    size: tuple[int, int]  # rows, columns
    direction: NDArray[np.float64]  # (6,): of a row's pixels, of a column's
    position: NDArray[np.float64]  # (3,): of the first pixel
    spacing: NDArray[np.float64]  # (2,): between rows, between columns
    rescale: tuple[float, float]  # slope, intercept


def read_dicom_series(folder: Path) -> Volume:
    """The CT series in `folder`, which holds one file per slice, in any order and under any names.

    Slices are ordered by their position along the slice normal. Localisers and files that are not DICOM are left out.
    Compressed pixels are decoded by pylibjpeg. Raises UnreadableCase.
    """
    headers = [(path, header) for path, header in _headers(folder) if not is_localiser(header)]
    if not headers:
        raise UnreadableCase(folder, "holds no DICOM slice", "Put the files of one CT series into it")
    if len(headers) == 1 and str(headers[0][1].get("Modality", "")) in XRAY_MODALITIES:
        return read_dicom_xray(headers[0][0])
    ordered, step = _ordered(folder, headers)
    stored = np.stack([_hounsfield(one) for one in ordered])
    affine = RAS_FROM_LPS @ _affine(ordered[0], step)
    voxels, spacing, axes = to_patient_axes(stored.transpose(2, 1, 0), affine)
    return Volume(np.clip(voxels, *HU_RANGE), spacing, "ct", axes, folder)


def check_series(folder: Path, headers: Sequence[tuple[Path, Dataset]]) -> None:
    """Whether these slices make one volume, as far as their headers tell. Raises UnreadableCase."""
    _ordered(folder, headers)


def read_dicom_xray(path: Path) -> Volume:
    """One X-ray film as the radiologist sees it (the file's own window), scaled to [0, 1]. Raises UnreadableCase."""
    header = _header(path)
    if str(header.get("Modality", "")) == "CT":
        raise UnreadableCase(path, "is one slice of a CT", "Give the folder that holds its whole series")
    pixels = _film(path)
    if pixels.ndim != 2:
        raise UnreadableCase(path, f"holds pixels of shape {pixels.shape}, not one grey film", EXPORT_AGAIN)
    low, high = float(pixels.min()), float(pixels.max())
    if low == high:
        raise UnreadableCase(path, "is blank: every pixel has the same value", "Leave this case out")
    film = (pixels - low) / (high - low)
    if str(header.get("PhotometricInterpretation", "")) == "MONOCHROME1":  # low values are meant to be shown bright
        film = 1 - film
    try:
        spacing = tuple(float(mm) for mm in header.get("PixelSpacing") or header.get("ImagerPixelSpacing") or ())
    except (TypeError, ValueError) as error:
        raise UnreadableCase(path, f"has a damaged DICOM header ({error})", EXPORT_AGAIN) from error
    return Volume(film, spacing or None, "xray", "", path)


def patient_id(path: Path) -> str:
    """The PatientID of a DICOM file, or of the first slice in a folder; "" where it has none. Raises UnreadableCase."""
    header = first_header(path)
    return "" if header is None else str(header.get("PatientID", "") or "").strip()


def first_header(path: Path) -> Dataset | None:
    """The header of a DICOM file, or of the first in a folder; None of a folder without any. Raises UnreadableCase."""
    if not path.is_dir():
        return _header(path)
    return next((header for header in map(_header_if_dicom, _candidates(path)) if header is not None), None)


def _candidates(folder: Path) -> list[Path]:
    visible = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in visible if path.name.upper() != "DICOMDIR")


def _headers(folder: Path) -> list[tuple[Path, Dataset]]:
    found = ((path, _header_if_dicom(path)) for path in _candidates(folder))
    return [(path, header) for path, header in found if header is not None]


def _header_if_dicom(path: Path) -> Dataset | None:
    """The header, or None for a file that does not even claim to be DICOM (a note, a thumbnail)."""
    if path.suffix.lower() not in (".dcm", ".dicom", ".ima") and not has_preamble(path):
        return None
    return _header(path)


def has_preamble(path: Path) -> bool:
    """Whether a file says that it is DICOM, whatever its name."""
    with path.open("rb") as file:
        file.seek(128)
        return file.read(4) == b"DICM"


def _header(path: Path) -> Dataset:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        for name in (*IMAGE, *NEEDED, *LOOKED_AT):  # converted when first looked at, so damage would show later
            header.get(name)
    except InvalidDicomError as error:
        raise UnreadableCase(path, "is not a DICOM file (empty, or overwritten)", EXPORT_AGAIN) from error
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise UnreadableCase(path, f"has a damaged DICOM header ({error})", EXPORT_AGAIN) from error
    missing = [name for name in IMAGE if name not in header]
    if missing:
        what = f"is a truncated DICOM file, or no image: its header lacks {', '.join(missing)}"
        raise UnreadableCase(path, what, f"Remove it if it is a report. {EXPORT_AGAIN}")
    return header


def is_localiser(header: Dataset) -> bool:
    """Whether it is the overview that a scan is planned on."""
    kind = header.get("ImageType") or []
    return "LOCALIZER" in [str(part).upper() for part in kind]


def _slice(path: Path, header: Dataset) -> _Slice:
    missing = [name for name in NEEDED if header.get(name) in (None, "")]
    if missing:
        raise UnreadableCase(path, f"lacks {', '.join(missing)}", EXPORT_AGAIN)
    try:
        frames = int(header.get("NumberOfFrames") or 1)
        rows, columns = int(header.Rows), int(header.Columns)
        direction, position, spacing, rescale = (
            np.array([float(value) for value in values], np.float64)
            for values in (
                header.ImageOrientationPatient,
                header.ImagePositionPatient,
                header.PixelSpacing,
                (header.RescaleSlope, header.RescaleIntercept),
            )
        )
    except (TypeError, ValueError) as error:
        raise UnreadableCase(path, f"has a damaged DICOM header ({error})", EXPORT_AGAIN) from error
    if frames > 1:
        raise UnreadableCase(path, "holds many frames in one file", "Convert it to one file per slice, or to NIfTI")
    if rows < 1 or columns < 1:
        raise UnreadableCase(path, "has an image of size zero", EXPORT_AGAIN)
    if (len(direction), len(position), len(spacing)) != (6, 3, 2) or not _is_geometry(direction, position, spacing):
        raise UnreadableCase(path, "has an impossible position, orientation or pixel spacing", EXPORT_AGAIN)
    slope, intercept = float(rescale[0]), float(rescale[1])
    return _Slice(
        path, str(header.SeriesInstanceUID), (rows, columns), direction, position, spacing, (slope, intercept)
    )


def _is_geometry(direction: NDArray[np.float64], position: NDArray[np.float64], spacing: NDArray[np.float64]) -> bool:
    """Whether rows and columns run along perpendicular unit vectors, at a place and spacing that can be."""
    axes = direction.reshape(2, 3)
    perpendicular = bool(np.abs(axes @ axes.T - np.eye(2)).max() < 0.01)
    return perpendicular and bool(np.abs(position).max() < 1e5) and bool(0 < spacing.min() <= spacing.max() < 1e3)


def _ordered(folder: Path, headers: Sequence[tuple[Path, Dataset]]) -> tuple[list[_Slice], NDArray[np.float64]]:
    """The slices of a series by position, and the step in mm (3,) from each to the next. Raises UnreadableCase."""
    slices = [_slice(path, header) for path, header in headers]
    _check_one_series(folder, slices)
    return _along_normal(folder, slices)


def _check_one_series(folder: Path, slices: list[_Slice]) -> None:
    series = {one.series: one.path.name for one in slices}
    if len(series) > 1:
        examples = " and ".join(sorted(series.values())[:2])
        what = f"mixes {len(series)} series (for example {examples})"
        raise UnreadableCase(folder, what, "Give each series a folder of its own, and keep the one for diagnosis")
    sizes = {one.size for one in slices}
    if len(sizes) > 1:
        raise UnreadableCase(folder, f"mixes slices of {len(sizes)} image sizes ({sorted(sizes)})", EXPORT_AGAIN)
    if len(slices) < 2:
        raise UnreadableCase(folder, "holds a single CT slice", "Put the files of the whole series into it")
    if max(np.abs(one.direction - slices[0].direction).max() for one in slices) > 0.01:
        raise UnreadableCase(folder, "mixes slices of different orientation", "Give each series a folder of its own")


def _along_normal(folder: Path, slices: list[_Slice]) -> tuple[list[_Slice], NDArray[np.float64]]:
    """The slices in order of position along their normal, and the step in mm (3,) from each to the next."""
    normal = np.cross(slices[0].direction[:3], slices[0].direction[3:])
    where = np.array([one.position for one in slices]) @ normal
    order = np.argsort(where, kind="stable")
    gaps = np.diff(where[order])
    usual = float(np.median(gaps))
    ordered = [slices[index] for index in order]
    for gap, (before, after) in zip(gaps, pairwise(one.path.name for one in ordered), strict=True):
        if gap < 0.01:
            raise UnreadableCase(folder, f"holds two slices at one position ({before}, {after})", "Remove one of them")
        if gap > LARGEST_GAP * usual:
            what = f"misses slices: {gap:.1f} mm between {before} and {after}, elsewhere {usual:.1f} mm"
            raise UnreadableCase(folder, what, EXPORT_AGAIN)
    return ordered, normal * usual


def _affine(first: _Slice, step: NDArray[np.float64]) -> NDArray[np.float64]:
    """From (column, row, slice) indices to DICOM's patient millimetres (PS3.3 C.7.6.2.1.1)."""
    between_rows, between_columns = first.spacing
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.direction[:3] * between_columns, first.direction[3:] * between_rows
    affine[:3, 2], affine[:3, 3] = step, first.position
    return affine


def _hounsfield(one: _Slice) -> NDArray[np.float32]:
    stored = _decode(one.path)[1]
    if stored.shape != one.size:
        raise UnreadableCase(one.path, f"holds pixels of shape {stored.shape}, not one grey slice", EXPORT_AGAIN)
    slope, intercept = one.rescale
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _film(path: Path) -> NDArray[np.float32]:
    """The pixels as the file's own lookup tables or window show them."""
    dataset, stored = _decode(path)
    try:
        return np.asarray(apply_voi_lut(apply_modality_lut(stored, dataset), dataset), np.float32)
    except Exception as error:  # damaged tables make pydicom raise nearly anything
        raise UnreadableCase(path, f"has a damaged window or lookup table ({error})", EXPORT_AGAIN) from error


def _decode(path: Path) -> tuple[Dataset, NDArray[np.generic]]:
    try:
        dataset = pydicom.dcmread(path)
        return dataset, np.asarray(dataset.pixel_array)
    except Exception as error:  # decoders raise nearly anything on damaged pixels
        raise UnreadableCase(path, f"has truncated or damaged pixels ({error})", EXPORT_AGAIN) from error
