"""DICOM files as they come from an archive: whose they are, and the reasons to leave them out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder

from participant.data.dicom import IMAGE, LOOKED_AT, NEEDED, XRAY_MODALITIES, check_series, is_localiser
from participant.data.errors import UnreadableCase

_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
_LATERAL: Final = ("LL", "RL", "LATERAL")
_AXIAL: Final = 0.8  # least cosine between the slices' normal and the body's axis; a gantry tilts by up to 30 degrees
_DEFERRED: Final = 64 * 1024  # bytes; longer values, such as pixels, are read when they are copied

DAMAGED = "damaged file"
NO_VOLUME = "its slices make no volume"
CHANGED = "has other files than when it was imported"


class LeftOut(Exception):
    """No case for training. `reason` is the same for all of a kind and names nobody; `detail` may name files."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Wanted:
    """What a person asked for. description: of the series, with * and ?; "" for any."""

    min_slices: int = 16
    description: str = ""

    def describes(self, description: str) -> bool:
        """Whether a series of that description was asked for."""
        return not self.description or fnmatchcase(description.strip().casefold(), self.description.casefold())


@dataclass(frozen=True)
class Origin:
    """Whose image it is, in the archive's own words: neither stored nor printed."""

    patient: str = field(default="", repr=False)
    study: str = field(default="", repr=False)
    series: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)

    @classmethod
    def of(cls, header: Dataset) -> Origin:
        """As a file's header has it; "" for what it does not say."""
        names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber")
        return cls(*(str(header.get(name) or "").strip() for name in names))


def read_slice(path: Path) -> Dataset:
    """A DICOM file; its pixels are read when they are looked at.

    Raises:
        LeftOut: it is damaged, or no image.
    """
    try:
        header = pydicom.dcmread(path, defer_size=_DEFERRED)
        for name in (*IMAGE, *NEEDED, *LOOKED_AT, "SOPInstanceUID"):  # converted when first looked at
            header.get(name)
        header.file_meta.TransferSyntaxUID  # noqa: B018
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise LeftOut(DAMAGED, f"{path}: {error}") from error
    if any(not header.get(name) for name in (*IMAGE, "SOPInstanceUID")):
        raise LeftOut("no image: a report, a presentation state or the like", str(path))
    return header


def reason_against(header: Dataset) -> str | None:
    """Why one file is of no use here, as far as its header tells; None if it is."""
    modality = str(header.get("Modality", "") or "")
    if modality != "CT" and modality not in XRAY_MODALITIES:
        return f"modality {modality or 'not named'} is not read"
    if header.SOPClassUID == _SECONDARY_CAPTURE or header.SOPClassUID.startswith(f"{_SECONDARY_CAPTURE}."):
        return "secondary capture: a screenshot or dose report"
    if is_localiser(header):
        return "localiser"
    if int(header.get("NumberOfFrames") or 1) > 1:
        return "many frames in one file; export one file per slice"
    if str(header.get("BurnedInAnnotation", "")) == "YES":
        return "text is burnt into its pixels, which may name the patient"
    if modality != "CT" and str(header.get("ViewPosition", "")) in _LATERAL:
        return "lateral film"
    if modality == "CT" and not _axial(header):
        return "not axial"
    return _undecodable(header)


def check_use(header: Dataset) -> None:
    """Raises LeftOut for a file that is of no use here."""
    if reason := reason_against(header):
        raise LeftOut(reason)


def usable(files: list[tuple[Path, Dataset]], wanted: Wanted) -> list[tuple[Path, Dataset]]:
    """The files of a series that count: no localisers and the like among them, none twice.

    Raises:
        LeftOut: none does, by the reason against most of them; or the series was not asked for.
    """
    if not wanted.describes(str(files[0][1].get("SeriesDescription", "") or "")):
        raise LeftOut("description was not asked for")
    reasons: Counter[str] = Counter()
    kept: dict[str, tuple[Path, Dataset]] = {}
    for path, header in files:
        reason = reason_against(header)
        if reason is None:
            kept.setdefault(str(header.SOPInstanceUID), (path, header))
        else:
            reasons[reason] += 1
    if not kept:
        raise LeftOut(reasons.most_common(1)[0][0])
    return list(kept.values())


def check_volume(files: list[tuple[Path, Dataset]], wanted: Wanted) -> None:
    """Whether a CT series is a volume of enough slices that can be decoded.

    Raises:
        LeftOut: it is not.
    """
    check_count(len(files), wanted)
    try:
        check_series(files[0][0].parent, files)
    except UnreadableCase as error:
        raise LeftOut(NO_VOLUME, str(error)) from error
    check_pixels(*files[len(files) // 2])


def check_count(slices: int, wanted: Wanted) -> None:
    """Whether a series has slices enough for a chest.

    Raises:
        LeftOut: it has too few.
    """
    if slices < wanted.min_slices:
        raise LeftOut(f"fewer than {wanted.min_slices} slices", f"{slices} slices")


def check_pixels(path: Path, header: Dataset) -> None:
    """Whether compressed pixels can be decoded; of those that are not compressed, `complete` tells as they are copied.

    Raises:
        LeftOut: they cannot.
    """
    if not header.file_meta.TransferSyntaxUID.is_compressed:
        return
    try:
        np.asarray(pydicom.dcmread(path).pixel_array)
    except Exception as error:  # decoders raise nearly anything on damaged pixels
        raise LeftOut("its pixels cannot be decoded", f"{path}: {error}") from error


def complete(header: Dataset) -> bool:
    """Whether as many pixels are there as the header says."""
    if "PixelData" not in header:
        return False
    if header.file_meta.TransferSyntaxUID.is_compressed:
        return True
    samples = int(header.get("SamplesPerPixel") or 1)
    bits = int(header.Rows) * int(header.Columns) * samples * int(header.get("BitsAllocated") or 16)
    return len(header.PixelData) * 8 >= bits


def _axial(header: Dataset) -> bool:
    try:
        direction = np.array([float(value) for value in header.get("ImageOrientationPatient") or ()])
        return direction.shape == (6,) and abs(np.cross(direction[:3], direction[3:])[2]) >= _AXIAL
    except (TypeError, ValueError):
        return False


def _undecodable(header: Dataset) -> str | None:
    syntax = header.file_meta.TransferSyntaxUID
    try:
        available = not syntax.is_compressed or get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):
        available = False
    return None if available else f"transfer syntax {syntax.name} cannot be decoded here"
