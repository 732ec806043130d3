"""A set's films with letters, arrows and marker plates painted over, and pictures of before and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from participant.data.readers import read_case
from simulation.datasets.dataset import Dataset
from simulation.datasets.files import made_from
from simulation.datasets.marks import Film, Mask, find_marks, paint_over
from simulation.phantoms.files import write_png

FORM = 1  # of what is found and painted: raise it when that changes, so that old files are not used
TILE = 320  # pixels of a picture's longer side in a panel


@dataclass(frozen=True)
class Inpainted:
    """The set with new files where there were marks, and for each changed film its path before and after."""

    dataset: Dataset
    changed: tuple[tuple[Path, Path], ...]


def inpainted(dataset: Dataset, folder: Path) -> Inpainted:
    """Paint over the marks of every film; changed films become PNG files in `folder`, the others stay as they are.

    Raises UnreadableCase.
    """
    rows, changed = [], []
    for row in dataset.rows:
        film = read_case(row.path).voxels
        mask = find_marks(film)
        if not mask.any():
            rows.append(row)
            continue

        def write(path: Path, film: Film = film, mask: Mask = mask) -> None:
            write_png(paint_over(film, mask), path)

        path = made_from(row.path, folder, f"inpainted {FORM}", ".png", write)
        rows.append(replace(row, path=path))
        changed.append((row.path, path))
    return Inpainted(dataset.with_rows(rows), tuple(changed))


def write_panel(films: Iterable[Path], path: Path, columns: int = 3) -> None:
    """A PNG with each film before, with what was found in red, and after, side by side.

    Raises:
        ValueError: there is no film.
        UnreadableCase: one cannot be read.
        OSError: the picture cannot be written.
    """
    films = list(films)
    if not films:
        raise ValueError("there is no film to make a picture of")
    triples = [_triple(read_case(film).voxels) for film in films]
    blank = np.zeros((TILE, 3 * TILE, 3), np.uint8)
    triples += [blank] * (-len(triples) % columns)
    rows = [np.hstack(triples[start : start + columns]) for start in range(0, len(triples), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.vstack(rows)):
        raise OSError(f"{path} cannot be written: name a file that ends in .png, in a folder that can be written to")


def _triple(film: Film) -> NDArray[np.uint8]:
    mask = find_marks(film)
    tiles = []
    for grey in (film, film, paint_over(film, mask)):
        tiles.append(cv2.cvtColor(np.rint(grey * 255).astype(np.uint8), cv2.COLOR_GRAY2BGR))
    tiles[1][mask > 0] = (40, 40, 230)  # blue, green, red
    scale = TILE / max(film.shape)
    framed = np.zeros((TILE, 3 * TILE, 3), np.uint8)
    for number, tile in enumerate(tiles):
        small = cv2.resize(tile, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:TILE, :TILE]
        framed[: small.shape[0], number * TILE : number * TILE + small.shape[1]] = small
    return framed
