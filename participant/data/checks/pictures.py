"""Small pictures of a case: for people to look at, and for comparing cases."""

from __future__ import annotations

import base64
import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from participant.data.volume import Volume

LUNG_WINDOW: Final = (-1350.0, 150.0)  # HU, as radiologists set it
THUMBNAIL: Final = 144  # pixels
_SKETCH: Final = 32
_SKETCHED_SLICES: Final = 6


def thumbnail(volume: Volume) -> str:
    """A data URI: a film, or a CT's middle slice beside a section from the front, in the lung window."""
    if volume.modality == "xray":
        shown = [_fitted(volume.voxels, 1.0)]
    else:
        low, high = LUNG_WINDOW
        grey = np.clip((volume.voxels - low) / (high - low), 0, 1)
        depth, height, width = volume.spacing or (1.0, 1.0, 1.0)
        front = grey[::-1, grey.shape[1] // 2]  # the head is up
        shown = [_fitted(grey[len(grey) // 2], height / width), _fitted(front, depth / width)]
    picture = Image.new("L", (THUMBNAIL * len(shown), THUMBNAIL))
    for place, part in enumerate(shown):
        picture.paste(part, (place * THUMBNAIL + (THUMBNAIL - part.width) // 2, (THUMBNAIL - part.height) // 2))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def sketch(volume: Volume) -> NDArray[np.float32]:
    """What remains of a case at 32 x 32 pixels (of a CT: in six slices), float32, mean 0 and length 1.

    The scalar product of two sketches is their correlation.
    """
    voxels = volume.voxels
    levels = np.linspace(0, len(voxels) - 1, _SKETCHED_SLICES + 2)[1:-1].astype(int)
    slices = [voxels] if voxels.ndim == 2 else list(voxels[levels])
    small = np.stack([shrunk(one, _SKETCH, _SKETCH) for one in slices]).ravel()
    small -= small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-9), np.float32)


def shrunk(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """An image [height, width] at another size; where it becomes smaller, each pixel is the mean of those it covers."""
    return np.array(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BOX))


def _fitted(grey: NDArray[np.float32], tall: float) -> Image.Image:
    """In [0, 1], into the thumbnail's square. tall: how much higher than wide a pixel is."""
    height, width = grey.shape[0] * tall, float(grey.shape[1])
    scale = THUMBNAIL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(np.uint8(grey * 255)).resize(size, Image.Resampling.LANCZOS)
