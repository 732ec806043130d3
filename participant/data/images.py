"""Reading an X-ray from a PNG or JPEG file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from participant.data.errors import UnreadableCase
from participant.data.volume import Volume

SAVE_AGAIN = "Export the film again as PNG or DICOM, or leave this case out"


def read_image(path: Path) -> Volume:
    """An X-ray from an image file: grey, colour (as figures are published) or with transparency, 8 or 16 bits.

    Raises UnreadableCase.
    """
    try:
        with Image.open(path) as image:
            film = _grey(ImageOps.exif_transpose(image))
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise UnreadableCase(path, f"is not a readable image ({error})", SAVE_AGAIN) from error
    if film.min() == film.max():
        raise UnreadableCase(path, "is blank: every pixel has the same value", "Leave this case out")
    return Volume(film, None, "xray", "", path)


def _grey(image: Image.Image) -> NDArray[np.float32]:
    """Brightness in [0, 1] of shape (height, width)."""
    if image.mode.startswith(("I", "F")):
        # 16-bit files do not say how many of their bits are used (often 12), so their own range is taken.
        wide = np.asarray(image, np.float32)
        low, high = float(wide.min()), float(wide.max())
        return (wide - low) / np.float32(max(high - low, 1e-6))
    if "A" in image.getbands() or "transparency" in image.info:
        # What is transparent was cut out of the film and shows as black, as outside the collimator.
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colour.size, (0, 0, 0, 255)), colour)
    return np.asarray(image.convert("L"), np.float32) / np.float32(255)
