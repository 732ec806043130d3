"""Importing from a folder of exports: DICOM in any nesting, NIfTI, PNG and JPEG."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import pydicom
from pydicom.dataset import Dataset

from participant.data.dicom import XRAY_MODALITIES, has_preamble
from participant.data.importing.collection import Row
from participant.data.importing.intake import Intake
from participant.data.importing.series import (
    CHANGED,
    DAMAGED,
    LeftOut,
    Wanted,
    check_pixels,
    check_volume,
    read_slice,
    usable,
)
from participant.data.importing.summary import Summary
from participant.data.readers import DICOM, IMAGES, NIFTI
from participant.progress import Advance

THREADS: Final = 4  # while one waits for the disk, another reads headers
_DICOM_SUFFIXES: Final = (*DICOM, ".ima")

Outcome: TypeAlias = Row | LeftOut  # a case, new or known, or none


class _Kind(NamedTuple):
    """A file of a series, or one that is a case by itself and known by its content."""

    series: str
    content: str


@dataclass
class Found:
    """What lies in a folder. series: files by SeriesInstanceUID. files: one for each content."""

    source: Path
    series: dict[str, list[Path]] = field(default_factory=dict, repr=False)
    files: dict[str, Path] = field(default_factory=dict, repr=False)
    left_out: list[tuple[Path, LeftOut]] = field(default_factory=list, repr=False)


def look_through(source: Path, skipped: Path, advance: Advance) -> Found:
    """All files in a folder and the folders below it, but for hidden ones and the folder `skipped`."""
    found = Found(source)

    def closed(error: OSError) -> None:
        found.left_out.append((Path(str(error.filename)), LeftOut("folder cannot be opened", str(error))))

    paths = list(_walk(source, skipped, closed))
    with ThreadPoolExecutor(THREADS) as pool:
        for done, (path, kind) in enumerate(zip(paths, pool.map(_kind, paths), strict=True), start=1):
            if isinstance(kind, LeftOut):
                found.left_out.append((path, kind))
            elif kind.series:
                found.series.setdefault(kind.series, []).append(path)
            else:
                found.files.setdefault(kind.content, path)
            advance(done, len(paths))
    return found


def import_found(found: Found, intake: Intake, wanted: Wanted, advance: Advance) -> Summary:
    """Take in what is new of all that was found; whatever is left out is in the summary with its reason."""
    summary = Summary()
    for path, left_out in found.left_out:
        summary.leave_out(str(path), left_out)
    with ThreadPoolExecutor(THREADS) as pool:
        work: dict[Future[list[Outcome]], Path] = {}
        for uid, paths in found.series.items():
            work[pool.submit(_take_series, uid, paths, found.source, intake, wanted)] = paths[0]
        for content, path in found.files.items():
            work[pool.submit(_take_file, content, path, found.source, intake)] = path
        try:
            for done, future in enumerate(as_completed(work), start=1):
                for outcome in future.result():
                    _settle(outcome, work[future], intake, summary)
                advance(done, len(work))
        finally:
            pool.shutdown(cancel_futures=True)  # a full disk, or Ctrl-C: what is complete is kept
    return summary


def _settle(outcome: Outcome, path: Path, intake: Intake, summary: Summary) -> None:
    if isinstance(outcome, LeftOut):
        summary.leave_out(str(path), outcome)
    elif intake.known(outcome.name):
        summary.known.add(outcome.name)
    else:
        intake.collection.admit(outcome)
        summary.imported.add(outcome.name)


def _walk(source: Path, skipped: Path, closed: Callable[[OSError], None]) -> Iterator[Path]:
    for name, folders, files in os.walk(source, onerror=closed):
        folder = Path(name)
        folders[:] = sorted(each for each in folders if not each.startswith(".") and folder / each != skipped)
        yield from (folder / each for each in sorted(files) if not each.startswith(".") and each.upper() != "DICOMDIR")


def _kind(path: Path) -> _Kind | LeftOut:
    name = path.name.lower()
    try:
        if name.endswith((*NIFTI, *IMAGES)):
            with path.open("rb") as file:
                return _Kind("", hashlib.file_digest(file, "sha256").hexdigest())
        if not name.endswith(_DICOM_SUFFIXES) and not has_preamble(path):
            return LeftOut("no DICOM, NIfTI, PNG or JPEG")
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        uid = str(header.get("SeriesInstanceUID") or "").strip()
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        return LeftOut(DAMAGED, str(error))
    return _Kind(uid, "") if uid else LeftOut(DAMAGED, "it names no series")


def _take_series(uid: str, paths: Sequence[Path], source: Path, intake: Intake, wanted: Wanted) -> list[Outcome]:
    """A CT series is one case; each film of a series of films is one."""
    if known := intake.known(intake.pseudonyms.of("series", uid)):
        return [known if known.files == len(paths) else LeftOut(CHANGED)]
    try:
        files = usable([(path, read_slice(path)) for path in paths], wanted)
        if files[0][1].Modality in XRAY_MODALITIES:
            return [_take_film(path, header, source, intake) for path, header in files]
        check_volume(files, wanted)
        return [replace(intake.series(files, intake.sources(paths, source)), files=len(paths))]
    except LeftOut as left_out:
        return [left_out]


def _take_film(path: Path, header: Dataset, source: Path, intake: Intake) -> Outcome:
    if known := intake.known(intake.film_name(str(header.SOPInstanceUID))):
        return known
    try:
        check_pixels(path, header)
        return intake.film(path, header, intake.sources([path], source))
    except LeftOut as left_out:
        return left_out


def _take_file(content: str, path: Path, source: Path, intake: Intake) -> list[Outcome]:
    name = intake.pseudonyms.of("content", content)
    if known := intake.known(name):
        return [known]
    try:
        return [intake.file(path, name, intake.sources([path], source))]
    except LeftOut as left_out:
        return [left_out]
