"""Gathering a case's files in its staging place: copied without the patient, or as links to the originals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from participant.data.errors import UnreadableCase
from participant.data.importing.collection import CASES, Collection, Row
from participant.data.importing.deidentify import stripped
from participant.data.importing.other_files import copy_image, copy_nifti
from participant.data.importing.pseudonyms import Pseudonyms
from participant.data.importing.series import DAMAGED, LeftOut, Origin, complete
from participant.data.readers import NIFTI
from participant.files import sync_folder


@dataclass(frozen=True)
class Intake:
    """How cases come into a collection. Its methods may be called by several threads, for different cases.

    link: originals stay where they are, and as they are.
    """

    collection: Collection
    pseudonyms: Pseudonyms
    link: bool = False

    def series(self, files: Sequence[tuple[Path, Dataset]], sources: str) -> Row:
        """Gather a CT series. Raises LeftOut if a file of it is damaged."""
        origin = Origin.of(files[0][1])
        name = self.pseudonyms.of("series", origin.series)
        folder = self.collection.emptied(name)
        folder.mkdir(mode=0o700)
        for path, header in files:
            self._put(path, header, folder / self.slice_name(str(header.SOPInstanceUID)))
        sync_folder(folder)
        return self.row(name, f"{CASES}/{name}", origin, len(files), sources)

    def film(self, path: Path, header: Dataset, sources: str) -> Row:
        """Gather a film in DICOM. Raises LeftOut if it is damaged."""
        name = self.film_name(str(header.SOPInstanceUID))
        self._put(path, header, self.collection.emptied(name))
        return self.row(name, f"{CASES}/{name}.dcm", Origin.of(header), 1, sources)

    def file(self, path: Path, name: str, sources: str) -> Row:
        """Gather a NIfTI volume or an image file under `name`. Raises LeftOut if it cannot be read as such."""
        lower, staged = path.name.lower(), self.collection.emptied(name)
        if self.link:
            suffix = next(known for known in (".nii.gz", path.suffix.lower()) if lower.endswith(known))
            staged.symlink_to(path)
        else:
            suffix, copy = (".nii.gz", copy_nifti) if lower.endswith(NIFTI) else (".png", copy_image)
            try:
                copy(path, staged)
            except UnreadableCase as error:
                raise LeftOut("no volume in HU, or no film that can be read", str(error)) from error
            _close_and_sync(staged)
        return self.row(name, f"{CASES}/{name}{suffix}", Origin(), 1, sources)

    def known(self, name: str) -> Row | None:
        """That case, if it was taken in before."""
        known = self.collection.rows.get(name)
        return known if known is not None and known.path else None

    def film_name(self, uid: str) -> str:
        """What the case of a film with that SOPInstanceUID is called."""
        return self.pseudonyms.of("instance", uid)

    def slice_name(self, uid: str) -> str:
        """What the file of a slice with that SOPInstanceUID is called within its series."""
        return f"{self.pseudonyms.of('instance', uid)}.dcm"

    def row(self, name: str, path: str, origin: Origin, files: int, sources: str = "", reason: str = "") -> Row:
        """What is remembered of a case."""
        hashed = {kind: self.pseudonyms.of(kind, getattr(origin, kind)) for kind in Origin.__dataclass_fields__}
        return Row(name=name, path=path, sources=sources, files=files, reason=reason, **hashed)

    def sources(self, paths: Sequence[Path], root: Path) -> str:
        """Where a case lies, for labels that name a path: its file, if it is one, and the folders up to `root`."""
        folder = Path(os.path.commonpath([path.parent for path in paths]))
        places = [*paths[:1]] if len(paths) == 1 else []
        places += [each for each in (folder, *folder.parents) if each.is_relative_to(root)]
        return " ".join(self.pseudonyms.of("file", str(place)) for place in places)

    def _put(self, path: Path, header: Dataset, target: Path) -> None:
        if self.link:
            target.symlink_to(path)
        else:
            write_stripped(header, target, self.pseudonyms)


def _close_and_sync(path: Path) -> None:
    """Close a file to others, and wait until it is on the disk."""
    path.chmod(0o600)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_stripped(header: Dataset, target: Path, pseudonyms: Pseudonyms) -> None:
    """Write a DICOM file without the patient; on the disk when this returns. Raises LeftOut if it is damaged."""
    try:
        copy = stripped(header, pseudonyms.of("patient", str(header.get("PatientID") or "")), pseudonyms)
        whole = complete(copy)
    except Exception as error:  # pixels are read only now, and damage makes pydicom raise nearly anything
        raise LeftOut(DAMAGED, f"{header.filename}: {error}") from error
    header.pop("PixelData", None)  # a whole series' need not be in memory at once
    if not whole:
        raise LeftOut(DAMAGED, f"{header.filename}: fewer pixels than its header says")
    unfinished = target.with_name(f".{target.name}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        copy.save_as(file, enforce_file_format=True)
        file.flush()
        os.fsync(descriptor)
    unfinished.replace(target)  # killed before, there is no such file
