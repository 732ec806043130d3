"""NIfTI volumes and image files without the words that travel in them: headers, extensions, EXIF, comments."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Final

import nibabel
from PIL import Image, ImageOps

from participant.data.images import read_image
from participant.data.nifti import read_nifti

_PNG_MODES: Final = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")
_TEXTS: Final = ("descrip", "aux_file", "intent_name", "db_name")  # db_name is NIfTI-1's only


def copy_nifti(path: Path, target: Path) -> None:
    """Copy a volume; its numbers stay as they are stored. `target` ends with .nii.gz.

    Raises:
        UnreadableCase: it is no volume in HU.
    """
    read_nifti(path)
    image: Any = nibabel.load(path)
    header = image.header.copy()
    header.extensions.clear()
    for name in _TEXTS:
        if name in header:
            header[name] = b""
    header["scl_slope"], header["scl_inter"] = image.dataobj.slope, image.dataobj.inter  # nibabel takes them out
    header["vox_offset"], header["magic"] = header.single_vox_offset, header.single_magic
    # Without a name, which gzip would write down, and without the time.
    with target.open("wb") as file, gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
        header.write_to(packed)
        packed.write(bytes(header.single_vox_offset - packed.tell()))
        packed.write(image.dataobj.get_unscaled().tobytes(order="F"))


def copy_image(path: Path, target: Path) -> None:
    """Copy a film as PNG: the same brightness, upright, and nothing beside the pixels.

    Raises:
        UnreadableCase: it is no readable film.
    """
    read_image(path)
    with Image.open(path) as image:
        film = ImageOps.exif_transpose(image)
    if film.mode not in _PNG_MODES:
        film = film.convert("L")
    film.info = {name: value for name, value in film.info.items() if name == "transparency"}
    film.save(target, "PNG")
