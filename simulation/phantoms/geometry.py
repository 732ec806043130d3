"""Where the voxels of a phantom lie, and the few field operations that its anatomy and lesions are drawn with.

Coordinates are millimetres in the patient: x towards the left, y towards the back, z towards the head, as in DICOM.
An array is (depth, height, width) = (z, y, x), each axis running in the positive direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = NDArray[np.floating]  # float32, which numpy's types lose track of


@dataclass(frozen=True)
class Grid:
    """A regular grid of `shape` voxels, `spacing` mm apart, the first centred at `origin` mm; all as (z, y, x)."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm³."""
        return float(np.prod(self.spacing))

    def axes(self) -> tuple[Field, Field, Field]:
        """The z, y and x coordinates in mm, shaped (depth, 1, 1), (1, height, 1) and (1, 1, width)."""
        z, y, x = (
            (start + step * np.arange(count)).astype(np.float32)
            for start, step, count in zip(self.origin, self.spacing, self.shape, strict=True)
        )
        return z[:, None, None], y[None, :, None], x[None, None, :]

    def index(self, points: NDArray[np.floating]) -> NDArray[np.int64]:
        """The nearest voxel of each point; (n, 3) in mm to (n, 3). Points outside get indices outside."""
        nearest: NDArray[np.int64] = np.rint((points - np.array(self.origin)) / np.array(self.spacing)).astype(np.int64)
        return nearest


def inside(signed_distance: Field, edge: float) -> Field:
    """How much of a voxel lies inside a surface: 1 to 0 over `edge` mm around distance 0 (partial volume effect)."""
    share: Field = np.clip(0.5 - signed_distance / np.float32(edge), 0, 1)
    return share


def blend(under: Field, over: Field | float, share: Field) -> Field:
    """`over` laid on `under` where `share` is 1, mixed where it is between 0 and 1."""
    return under + share * (np.float32(over) - under)


def smooth_noise(grid: Grid, wavelength: float, rng: np.random.Generator) -> Field:
    """Noise of about unit variance that varies over `wavelength` mm: a coarse random lattice, interpolated."""
    steps = [max(2, round(n * s / wavelength) + 1) for n, s in zip(grid.shape, grid.spacing, strict=True)]
    field: Field = rng.standard_normal(steps).astype(np.float32)
    for axis, fine in enumerate(grid.shape):
        field = _stretched(field, axis, fine)
    # Linear interpolation in three directions averages the lattice: about 0.54 of its deviation is left.
    return field / np.float32(0.54)


def _stretched(field: Field, axis: int, fine: int) -> Field:
    """`field` linearly interpolated to `fine` values along an axis."""
    position = np.linspace(0, field.shape[axis] - 1, fine, dtype=np.float32)
    before = np.minimum(position.astype(np.int64), field.shape[axis] - 2)
    share = (position - before).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(field.ndim)])
    return blend(np.take(field, before, axis), np.take(field, before + 1, axis), share)


def capsule_distance(
    grid: Grid, start: tuple[float, float, float], end: tuple[float, float, float], reach: float
) -> tuple[tuple[slice, slice, slice], Field]:
    """Distance in mm to the line from `start` to `end`, computed only in the box within `reach` mm of it.

    Returns the box as slices into the grid and the distances in it; points are (z, y, x).
    """
    ends = np.array([start, end])
    low = np.maximum(grid.index(ends.min(0, keepdims=True) - reach)[0], 0)
    high = np.minimum(grid.index(ends.max(0, keepdims=True) + reach)[0] + 1, grid.shape)
    box = tuple(slice(int(a), int(max(a, b))) for a, b in zip(low, high, strict=True))
    z, y, x = grid.axes()
    offset = [axis - np.float32(p) for axis, p in zip((z[box[0]], y[:, box[1]], x[:, :, box[2]]), start, strict=True)]
    line = ends[1] - ends[0]
    along = sum((o * np.float32(c) for o, c in zip(offset, line, strict=True)), np.float32(0)) / np.float32(line @ line)
    along = np.clip(along, 0, 1)
    squares = sum(((o - along * np.float32(c)) ** 2 for o, c in zip(offset, line, strict=True)), np.float32(0))
    return (box[0], box[1], box[2]), np.sqrt(squares)


def fill_tubes(
    grid: Grid,
    points: NDArray[np.floating],
    parents: NDArray[np.int64],
    radii: NDArray[np.floating],
    rng: np.random.Generator,
) -> Field:
    """The share of each voxel filled by the tubes from points (n, 3) to their parents, with radii (n,), in mm.

    Random points fill the tubes and are counted per voxel. Unlike a distance field this costs nothing per voxel and
    keeps the volume of vessels thinner than a voxel.
    """
    child = np.flatnonzero(parents >= 0)
    start, line = points[parents[child]], points[child] - points[parents[child]]
    volume = np.pi * radii[child] ** 2 * np.linalg.norm(line, axis=1)
    count = np.maximum(4, np.ceil(12 * volume / grid.voxel_volume)).astype(np.int64)
    which = np.repeat(np.arange(len(child)), count)
    spread = rng.standard_normal((len(which), 3)) * (0.5 * radii[child][which])[:, None]
    cloud = grid.index(start[which] + rng.random((len(which), 1)) * line[which] + spread)
    kept = np.all((cloud >= 0) & (cloud < np.array(grid.shape)), axis=1)
    flat = np.ravel_multi_index(tuple(cloud[kept].T), grid.shape)
    weight = (volume / count / grid.voxel_volume)[which][kept]
    filled = np.bincount(flat, weights=weight, minlength=int(np.prod(grid.shape)))
    return np.minimum(filled, 1).reshape(grid.shape).astype(np.float32)
