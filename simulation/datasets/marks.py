"""Finding and painting over letters, arrows and marker plates on X-ray films.

Published films carry marks that tell a network where a film is from rather than what it shows. A mark is a small
structure that differs strongly from its surroundings with edges of one or two pixels, which no anatomy has, because the
focal spot and the body's depth blur it. What is painted over is filled from around it by fast marching (Telea, An image
inpainting technique based on the fast marching method, Journal of Graphics Tools 2004, as in OpenCV).

Deliberately careful: electrodes, leads, pale tokens and soft arrows stay rather than that a rib goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Film: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.uint8]

SIDE = 512  # pixels of the longer side at which marks are looked for; smaller films are taken as they are
BORDER = 0.16  # of the longer side: marks are laid beside the chest, so there less evidence is asked for


@dataclass(frozen=True)
class Evidence:
    """What a structure needs to pass for a mark.

    contrast: brightness over its surroundings. isolation: over the brightest part of them, for a rib goes on where a
    letter ends. sharpness: share of the contrast that the edge rises a pixel. peak: brightness.
    """

    contrast: float
    isolation: float
    sharpness: float
    peak: float = 0.0


BESIDE_THE_CHEST = Evidence(0.3, 0.2, 0.22)
ON_THE_CHEST = Evidence(0.45, 0.3, 0.28, 0.93)  # saturated, as drawn arrows and letters are
DARK = Evidence(0.45, 0.3, 0.28, 0.9)  # black on the film, nearly as dark as can be


def find_marks(film: Film) -> Mask:
    """Where marks lie on a film (height, width) in [0, 1]: 1 there, 0 elsewhere."""
    scale = min(1.0, SIDE / max(film.shape))
    small = np.asarray(cv2.resize(film, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.float32)
    unit = max(small.shape) / SIDE
    found = _thin(small, unit, dark=False) | _thin(small, unit, dark=True) | _plates(small, unit)
    # The edge of a mark, and the rings that JPEG draws around it, belong to it.
    wide = cv2.dilate(found, _disk(2.5 * unit))
    height, width = film.shape
    return np.asarray(cv2.resize(wide, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def paint_over(film: Film, mask: Mask) -> Film:
    """The film with what `mask` covers filled from around it; every other pixel is as it was."""
    radius = max(2.0, 4 * max(film.shape) / SIDE)
    filled = cv2.inpaint(np.rint(film * 255).astype(np.uint8), mask, radius, cv2.INPAINT_TELEA)
    return np.where(mask > 0, np.float32(1 / 255) * filled, film).astype(np.float32)


def _thin(film: Film, unit: float, dark: bool) -> Mask:
    """Strokes: what a disk wider than they are does not fit into (a top-hat), judged one by one."""
    shown = 1 - film if dark else film
    around, disk = round(12 * unit) + 1, _disk(8 * unit)
    padded = cv2.copyMakeBorder(shown, around, around, around, around, cv2.BORDER_REFLECT)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, disk)[around:-around, around:-around]
    slopes = [np.asarray(cv2.Sobel(film, cv2.CV_32F, *axis), np.float32) for axis in ((1, 0), (0, 1))]
    steep = np.asarray(np.hypot(*slopes) / 8, np.float32)  # the kernel's weights add up to 8
    seeds = (shown - opened > 0.22).astype(np.uint8)
    found = np.zeros(film.shape, np.uint8)
    side = max(film.shape)
    for box, shape in _components(seeds):
        height, width = shape.shape
        filled = int(shape.sum())
        if filled < 6 * unit or filled > 0.004 * film.size or max(height, width) > 0.12 * side:
            continue
        if max(height, width) > 0.05 * side and filled < 0.3 * height * width:
            continue  # a lead or the line of the skin, longer and thinner than letters are
        if _is_mark(shown, steep, seeds, box, shape, dark):
            found[box] |= shape
    return found


def _is_mark(shown: Film, steep: Film, seeds: Mask, box: tuple[slice, slice], shape: Mask, dark: bool) -> bool:
    rows, columns = box
    around = np.s_[max(rows.start - 3, 0) : rows.stop + 3, max(columns.start - 3, 0) : columns.stop + 3]
    inside = np.zeros(shown.shape, np.uint8)[around]
    top, left = rows.start - around[0].start, columns.start - around[1].start
    inside[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
    ring = (cv2.dilate(inside, _disk(3)) - cv2.dilate(inside, _disk(1))) * (1 - seeds[around])  # not the next letter
    edge = cv2.dilate(inside - cv2.erode(inside, _disk(1)), _disk(1))
    if not ring.any():
        return False
    peak = float(np.percentile(shown[around][inside > 0], 90))
    contrast, isolation = (peak - float(np.percentile(shown[around][ring > 0], share)) for share in (50, 90))
    sharpness = float(np.percentile(steep[around][edge > 0], 75)) / max(contrast, 1e-3)
    needed = DARK if dark else BESIDE_THE_CHEST if _beside(box, shown.shape) else ON_THE_CHEST
    enough = contrast > needed.contrast and isolation > needed.isolation
    return enough and sharpness > needed.sharpness and peak > needed.peak


def _beside(box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    """Whether the middle of `box` lies in the border of the film."""
    middles = [(part.start + part.stop) / 2 for part in box]
    nearest = min(min(middle, side - middle) for middle, side in zip(middles, shape, strict=True))
    return bool(nearest < BORDER * max(shape))


def _plates(film: Film, unit: float) -> Mask:
    """Rectangles of one even grey with a letter on them: the boxes of figures' editors."""
    found = np.zeros(film.shape, np.uint8)
    for side, tolerance in ((3, 0.05), (5, 0.03)):  # JPEG blurs some plates, others run into a background as even
        window = np.ones((side, side), np.uint8)
        even = (cv2.dilate(film, window) - cv2.erode(film, window) < tolerance).astype(np.uint8)
        for box, shape in _components(even):
            if _is_plate(shape, unit):
                found[box] = 1
    # The window that measured evenness stopped short of the edge by its half.
    return np.asarray(cv2.dilate(found, np.ones((5, 5), np.uint8)), np.uint8)


def _is_plate(shape: Mask, unit: float) -> bool:
    narrow, wide = sorted(shape.shape)
    if narrow < 12 * unit or wide > 72 * unit or wide > 4 * narrow:
        return False
    outlines, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outer = cv2.drawContours(np.zeros_like(shape), outlines, -1, 1, cv2.FILLED)
    return bool(outer.sum() > 0.92 * shape.size and outer.sum() - shape.sum() > 0.1 * outer.sum())


def _components(seeds: Mask) -> Iterator[tuple[tuple[slice, slice], Mask]]:
    """Each connected structure: its box, and which pixels of the box it takes."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(seeds, connectivity=8)
    for number in range(1, count):
        left, top, width, height = (int(value) for value in stats[number][:4])
        box = (slice(top, top + height), slice(left, left + width))
        yield box, (labels[box] == number).astype(np.uint8)


def _disk(radius: float) -> Any:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
