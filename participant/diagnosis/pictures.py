"""Slices, heat and contours as pictures: what the page shows and what goes back to the PACS look the same."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

Grey = NDArray[np.uint8]

#: HU in the middle and across of what each preset shows from black to white.
PRESETS: Final = {"lung": (-600, 1500), "mediastinum": (40, 400), "bone": (400, 1800)}

#: Value, red, green, blue, opacity: dark to bright on any eyes and prints; what does not speak for the class is clear.
_HEAT: Final = np.array(
    [
        (0.15, 60, 9, 101, 0.00),
        (0.40, 155, 41, 100, 0.65),
        (0.65, 237, 105, 37, 0.85),
        (0.85, 251, 180, 26, 0.95),
        (1.00, 252, 255, 164, 1.00),
    ]
)
_OUTLINE: Final = (64, 224, 208, 255)  # turquoise: neither grey as the scan nor warm as the heat


def grey(image: NDArray[np.int16] | NDArray[np.float32], preset: str) -> Grey:
    """One slice in HU through a preset, or one film in [0, 1], which has no presets, as 8 bits."""
    if image.dtype == np.float32:
        return _eight_bits(np.clip(image, 0, 1) * 255)
    middle, width = PRESETS[preset]
    return _eight_bits(np.clip((image - (middle - width / 2)) / width, 0, 1) * 255)


def heat(values: NDArray[np.floating], size: tuple[int, int]) -> Grey:
    """A map [height, width] in [0, 1] as coloured, partly clear pixels [*size, 4]."""
    fine = resized(values, size)
    colours = [np.interp(fine, _HEAT[:, 0], _HEAT[:, channel]) for channel in (1, 2, 3)]
    opacity = 255 * np.interp(fine, _HEAT[:, 0], _HEAT[:, 4])
    return _eight_bits(np.stack([*colours, opacity], axis=-1))


def outline(mask: NDArray[np.bool_]) -> Grey:
    """The edge of what is inside, on clear ground: [height, width, 4]."""
    drawn = np.zeros((*mask.shape, 4), np.uint8)
    drawn[mask & ~binary_erosion(mask)] = _OUTLINE
    return drawn


def blended(slice_: Grey, over: Grey, opacity: float) -> Grey:
    """A slice [height, width] with coloured pixels [height, width, 4] laid on it: [height, width, 3]."""
    share = over[..., 3:] / 255 * opacity
    return _eight_bits(slice_[..., None] * (1 - share) + over[..., :3] * share)


def resized(values: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """A picture stretched to (height, width): its corners stay where they are."""
    image = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR), np.float32)


def png(pixels: Grey) -> bytes:
    """As a file. Packed little: it goes no further than this machine."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _eight_bits(values: NDArray[Any]) -> Grey:
    return np.asarray(np.rint(values), np.uint8)
