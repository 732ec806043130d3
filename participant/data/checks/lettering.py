"""Letters in an image: small, bright, sharply edged shapes of one height beside one another, near a border.

That is what burnt-in names, dates and hospital stamps look like. What it misses: dark letters, handwriting, text in the
middle of the image or upright beside it. What it may take for letters: a row of wires or screws near the border.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from participant.data.checks.pictures import shrunk

_SIDE: Final = 768  # larger images are looked at in this size
_BORDER: Final = 0.25  # of the sides: where stamps are put
_BRIGHT: Final = 0.85  # of the image's range
_CONTRAST: Final = 0.35  # between a letter and what is around it
_HEIGHTS: Final = (0.008, 0.07)  # of a letter, as shares of the longer side
_SMALLEST: Final = 5  # pixels: lower letters cannot be read
_LETTERS: Final = 3  # in a row; one or two are the R and L of the radiographer


@dataclass(frozen=True)
class _Glyph:
    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def continues(self, other: _Glyph) -> bool:
        """Whether it can be the next letter after `other`."""
        high = max(self.height, other.height)
        level = abs((self.top + self.bottom) - (other.top + other.bottom)) / 2 <= 0.35 * high
        return level and high <= 1.7 * min(self.height, other.height) and -2 <= self.left - other.right <= high


def text_lines(image: NDArray[np.float32]) -> int:
    """How many rows of letters an image [height, width] in [0, 1] seems to have."""
    longer = max(image.shape)
    if longer > _SIDE:
        image = shrunk(image, *(max(1, round(side * _SIDE / longer)) for side in image.shape))
    rows: list[list[_Glyph]] = []
    for glyph in sorted(_glyphs(image), key=lambda each: each.left):
        row = next((row for row in rows if glyph.continues(row[-1])), None)
        if row is None:
            rows.append([glyph])
        else:
            row.append(glyph)
    return sum(len(row) >= _LETTERS for row in rows)


def _glyphs(image: NDArray[np.float32]) -> list[_Glyph]:
    low, high = float(image.min()), float(image.max())
    if high <= low:
        return []
    scaled = (image - low) / (high - low)
    marked, _ = ndimage.label(scaled >= _BRIGHT, np.ones((3, 3)))
    return [
        _Glyph(rows.start, rows.stop, columns.start, columns.stop)
        for number, (rows, columns) in enumerate(ndimage.find_objects(marked), start=1)
        if _has_size(rows, columns, image.shape) and _is_sharp(scaled, marked, number, rows, columns)
    ]


def _has_size(rows: slice, columns: slice, shape: tuple[int, ...]) -> bool:
    height, width = rows.stop - rows.start, columns.stop - columns.start
    lowest, highest = (share * max(shape) for share in _HEIGHTS)
    across = (columns.start + columns.stop) / 2 / shape[1]
    down = (rows.start + rows.stop) / 2 / shape[0]
    near = min(across, down, 1 - across, 1 - down) <= _BORDER
    return bool(near and max(lowest, _SMALLEST) <= height <= highest and width <= 1.6 * height)


def _is_sharp(scaled: NDArray[np.float32], marked: NDArray[np.int32], number: int, rows: slice, columns: slice) -> bool:
    """Whether it stands out from what is around it, as parts of a body do not."""
    window = tuple(slice(max(0, part.start - 3), part.stop + 3) for part in (rows, columns))
    shape = marked[window] == number
    ring = ndimage.binary_dilation(shape, iterations=3) & ~ndimage.binary_dilation(shape, np.ones((3, 3)))
    inside, around = scaled[window][shape], scaled[window][ring]
    return bool(around.size) and float(inside.mean() - np.median(around)) >= _CONTRAST
