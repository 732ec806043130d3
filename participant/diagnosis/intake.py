"""From the files that somebody dropped to one scan, and the contours that lie with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pydicom
from pydicom.dataset import Dataset

from participant.data.dicom import XRAY_MODALITIES, has_preamble
from participant.data.errors import UnreadableCase
from participant.data.importing.series import LeftOut, read_slice, reason_against
from participant.data.readers import DICOM, IMAGES, NIFTI, read_case
from participant.data.volume import Volume
from participant.diagnosis.limits import Limits, check_file, check_scan, unzip
from participant.diagnosis.series import Series
from participant.policy import Refused

_CONTOURS: Final = ("SEG", "RTSTRUCT")  # DICOM modalities
_ACCEPTED: Final = "a zip of one CT series (DICOM), a NIfTI, or an X-ray (PNG, JPEG, DICOM)"


@dataclass(frozen=True, eq=False)
class Scan:
    """A case as handed in. series: where it came from, of DICOM. contours: files that may outline something in it.
    notes: what was left out, for the person who handed it in."""

    volume: Volume
    series: Series | None
    contours: tuple[Path, ...]
    notes: tuple[str, ...]


@dataclass
class _Sorted:
    series: dict[str, list[tuple[Path, Dataset]]] = field(default_factory=lambda: defaultdict(list))
    others: list[Path] = field(default_factory=list)
    contours: list[Path] = field(default_factory=list)
    reasons: set[str] = field(default_factory=set)


def take_in(files: Sequence[Path], folder: Path, limits: Limits) -> Scan:
    """Read the one scan among the files and what is in their archives; of several series, the one with most slices.

    Args:
        folder: empty; archives are unpacked there. The caller removes it.

    Raises:
        Refused: there is none, or none that can be read; the words name no file of the folder.
    """
    found = _sorted(unpacked(files, folder, limits))
    notes = sorted(found.reasons)
    if not found.series and len(found.others) != 1:
        what = "no scan" if not found.others else f"{len(found.others)} scans"
        raise Refused("no-scan", f"there is {what} in what was given: give {_ACCEPTED}" + _because(notes))
    try:
        if not found.series:
            check_file(found.others[0], limits)
            return Scan(read_case(found.others[0]), None, tuple(found.contours), tuple(notes))
        files_of = max(found.series.values(), key=len)
        headers = [header for _, header in files_of]
        check_scan(headers, limits)
        volume = read_case(_own_folder(files_of, folder))
    except UnreadableCase as error:
        raise Refused("unreadable", f"the scan {error.what}. {error.fix}") from error
    if len(found.series) > 1:
        chosen = str(headers[0].get("SeriesDescription", "") or "without a description")
        notes.append(f"{len(found.series)} series: looked at the largest, {chosen}")
    return Scan(volume, Series.of(headers, volume), tuple(found.contours), tuple(notes))


def unpacked(files: Iterable[Path], folder: Path, limits: Limits) -> list[Path]:
    """The files, and those in archives among them.

    Raises:
        Refused: as `limits.unzip`.
    """
    every: list[Path] = []
    for number, file in enumerate(files):
        if file.suffix.lower() != ".zip":
            every.append(file)
            continue
        place = folder / f"zip-{number}"
        place.mkdir()
        every += unzip(file, place, limits)
    return every


def _sorted(files: Iterable[Path]) -> _Sorted:
    found = _Sorted()
    for file in files:
        if file.name.lower().endswith((*NIFTI, *IMAGES)):
            found.others.append(file)
        elif file.suffix.lower() in DICOM or has_preamble(file):
            _sort_dicom(file, found)
    return found


def _sort_dicom(file: Path, found: _Sorted) -> None:
    try:
        if _modality(file) in _CONTOURS:
            found.contours.append(file)
            return
        header = read_slice(file)
    except LeftOut as error:
        found.reasons.add(f"left out: {error.reason}")
        return
    reason = reason_against(header)
    if reason is not None:
        found.reasons.add(f"left out: {reason}")
        return
    header.pop("PixelData", None)
    films = str(header.get("Modality", "")) in XRAY_MODALITIES
    found.series[str(header.SOPInstanceUID if films else header.SeriesInstanceUID)].append((file, header))


def _modality(file: Path) -> str:
    try:
        return str(pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality", ""))
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise LeftOut("damaged file") from error


def _own_folder(files: Sequence[tuple[Path, Dataset]], folder: Path) -> Path:
    """Where the reader finds this series alone; a film is a file."""
    if str(files[0][1].get("Modality", "")) in XRAY_MODALITIES:
        return _named(folder / "film.dcm", files[0][0])
    place = folder / "series"
    place.mkdir()
    for number, (file, _) in enumerate(files):
        _named(place / f"{number:05}.dcm", file)
    return place


def _named(name: Path, file: Path) -> Path:
    """The file under a name that the reader knows; where it lies it stays, as it may be the hospital's own."""
    name.symlink_to(file.absolute())
    return name


def _because(notes: Sequence[str]) -> str:
    return f" ({'; '.join(notes)})" if notes else ""
