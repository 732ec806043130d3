"""How much one visitor may hand in at once, so that a file from anywhere cannot fill disk or memory."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel
from PIL import Image
from pydicom.dataset import Dataset

from participant.data.readers import IMAGES, NIFTI
from participant.policy import Refused

MIB: Final = 1024 * 1024
_PIECE: Final = 1024 * 1024
_nibabel: Any = nibabel  # has no type annotations for what is read lazily


@dataclass(frozen=True)
class Limits:
    """upload: bytes of a request. unpacked: bytes of all files in its archives. files: how many of them. voxels: of a
    scan, in memory four to twelve bytes each."""

    upload: int = 2048 * MIB
    unpacked: int = 4096 * MIB
    files: int = 5000
    voxels: int = 1200 * 512 * 512


#: For whoever comes by: one chest CT of thin slices still passes.
PUBLIC: Final = Limits(upload=300 * MIB, unpacked=600 * MIB, files=1500, voxels=600 * 512 * 512)


def unzip(archive: Path, folder: Path, limits: Limits) -> list[Path]:
    """The archive's files in `folder`, under numbers in place of their names and paths; ending and order stay.

    Raises:
        Refused: it is no archive that can be read, or one beyond the limits.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [each for each in opened.infolist() if not each.is_dir() and not _hidden(each.filename)]
            if len(members) > limits.files:
                raise Refused("too-many-files", f"the zip holds {len(members)} files; {limits.files} is the limit")
            left, found = limits.unpacked, []
            for number, member in enumerate(members):
                target = folder / f"{number:05}{suffix_of(member.filename)}"
                left -= _copy(opened, member, target, left, limits)
                found.append(target)
            return found
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError, EOFError) as error:
        words = f"the zip cannot be read ({error}): make it anew, without a password"
        raise Refused("bad-zip", words) from error


def check_scan(headers: list[Dataset], limits: Limits) -> None:
    """Raise unless so many slices of that size may be read.

    Raises:
        Refused: they may not.
    """
    _check(sum(int(h.Rows) * int(h.Columns) * int(h.get("NumberOfFrames") or 1) for h in headers), limits)


def check_file(path: Path, limits: Limits) -> None:
    """The same of a NIfTI or an image file, from its header alone; one that cannot be read is left to its reader."""
    name = path.name.lower()
    try:
        if name.endswith(NIFTI):
            size = 1
            for side in _nibabel.load(path).shape:
                size *= int(side)
        elif name.endswith(IMAGES):
            with Image.open(path) as image:
                size = image.width * image.height
        else:
            return
    except Exception:  # a damaged file makes the readers raise nearly anything; they say so in words when they read it
        return
    _check(size, limits)


def suffix_of(name: str) -> str:
    """How a file's name ends, as the readers look at it; none of what stands before."""
    lower = name.lower()
    known = (".nii.gz", ".nii", *IMAGES, ".dcm", ".dicom", ".ima", ".zip")
    return next((each for each in known if lower.endswith(each)), "")


def _check(voxels: int, limits: Limits) -> None:
    if voxels > limits.voxels:
        raise Refused("too-large", f"the scan has {voxels:,} voxels; {limits.voxels:,} is the limit here")


def _hidden(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "__MACOSX" or parts[-1].startswith(".") or parts[-1].upper() == "DICOMDIR"


def _copy(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, left: int, limits: Limits) -> int:
    """Bytes written; what the archive's list says of sizes is not believed."""
    written = 0
    with opened.open(member) as source, target.open("wb") as file:
        while piece := source.read(_PIECE):
            written += len(piece)
            if written > left:
                words = f"unpacked, the zip is larger than {limits.unpacked // MIB:,} MB, which is the limit here"
                raise Refused("too-large", words)
            file.write(piece)
    return written
