"""What the files of a case say about themselves, beside the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
from PIL import Image
from pydicom.dataset import Dataset

from participant.data.dicom import first_header
from participant.data.readers import DICOM, NIFTI


@dataclass(frozen=True)
class Header:
    """format: DICOM, NIfTI, PNG or JPEG. photometric: DICOM's, or "colour" of a coloured image file.

    burned_in: DICOM's BurnedInAnnotation. view: DICOM's ViewPosition. source: what made the image, as far as it says.
    oriented: whether it says which way its axes run.
    """

    format: str
    photometric: str = ""
    burned_in: bool = False
    view: str = ""
    source: str = ""
    oriented: bool = True


def header_of(path: Path) -> Header:
    """The header of a case that was read without fault. What a header lacks is empty."""
    name = path.name.lower()
    if name.endswith(NIFTI):
        image: Any = nibabel.load(path)
        return Header("NIfTI", oriented=bool(image.header.get("sform_code", 1) or image.header.get("qform_code", 1)))
    if path.is_dir() or name.endswith(DICOM):
        return _dicom(first_header(path) or Dataset())
    with Image.open(path) as film:
        coloured = film.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr") and _is_coloured(film)
        return Header(film.format or "image", photometric="colour" if coloured else "")


def _is_coloured(film: Image.Image) -> bool:
    """Whether any pixel is not grey: figures are often saved in colour without having any."""
    small = film.convert("RGB").resize((64, 64))
    red, green, blue = (channel.tobytes() for channel in small.split())
    return max(max(three) - min(three) for three in zip(red, green, blue, strict=True)) > 24


def _dicom(header: Dataset) -> Header:
    def said(keyword: str) -> str:
        return str(header.get(keyword) or "").strip()

    source = " ".join(filter(None, [said("Manufacturer"), said("ManufacturerModelName"), said("ConvolutionKernel")]))
    return Header(
        "DICOM",
        photometric=said("PhotometricInterpretation"),
        burned_in=said("BurnedInAnnotation").upper() == "YES",
        view=said("ViewPosition").upper(),
        source=source,
    )
