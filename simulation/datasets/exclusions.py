"""Leaving cases out: by what is known of them, and by what they show. The set remembers every one and the reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from participant.data.errors import UnreadableCase
from participant.data.readers import read_case
from simulation.datasets.dataset import Dataset, Row

LATERAL = frozenset({"l", "lateral", "lat", "ll", "rl"})
THUMBNAIL = 32  # pixels a side
#: Correlation of two films' thumbnails from which they are one picture. Measured on the films beside the checkout:
#: every fourth one, saved again at half the size as poor JPEG (quality 30), stays over 0.9986; of all 1,124 the likest
#: two different ones, both of one patient, come to 0.989, and those of two patients to 0.968.
SAME = 0.998


def without_laterals(dataset: Dataset) -> Dataset:
    """Without films that are known to be taken from the side. A film whose view is not known stays."""
    return dataset.without("is a lateral view", lambda row: row.view.lower() in LATERAL)


def without_ct_slices(dataset: Dataset) -> Dataset:
    """Of a set of films, without pictures that are single slices of a CT."""
    return dataset.without("is a slice of a CT", lambda row: row.modality == "ct" and row.path.suffix != "")


def without_sources(dataset: Dataset, sources: Collection[str]) -> Dataset:
    """Without the rows of these sources."""
    return dataset.without("is of a source that is left out", lambda row: row.source in sources)


def without_patients_in_two_classes(dataset: Dataset) -> Dataset:
    """Without any case of a patient who occurs in more than one class.

    Such patients may rightly be there (ill and later well). They break no split by patient, but who wants each patient
    to stand for one class leaves them out.
    """
    labels = defaultdict(set)
    for row in dataset.rows:
        labels[row.patient].add(row.label)
    return dataset.without("is of a patient in two classes", lambda row: len(labels[row.patient]) > 1)


def without_duplicates(dataset: Dataset) -> Dataset:
    """Without second copies of a picture, and without any copy of one that is in two classes.

    Films are compared as pictures, whatever the size and format of their files, CTs by the bytes of their files. Files
    that cannot be read are left out, too: nobody can say what they are copies of.
    """
    groups, unreadable = _groups(dataset.rows)
    labels: dict[int, set[str]] = defaultdict(set)
    first: dict[int, Path] = {}
    for row in dataset.rows:
        if row.path in groups:
            labels[groups[row.path]].add(row.label)
            first.setdefault(groups[row.path], row.path)
    read = dataset.without("cannot be read", lambda row: row.path in unreadable)
    clear = read.without("is in two classes as the same picture", lambda row: len(labels[groups[row.path]]) > 1)
    return clear.without("is a copy of another case", lambda row: first[groups[row.path]] != row.path)


def _groups(rows: Sequence[Row]) -> tuple[dict[Path, int], set[Path]]:
    """A number for each case, the same for copies; and the files that cannot be read."""
    films = [row.path for row in rows if row.modality == "xray"]
    scans = [row.path for row in rows if row.modality == "ct"]
    seen: dict[str, int] = {}
    groups = {path: seen.setdefault(_digest(path), len(seen)) for path in scans}
    thumbnails, unreadable = [], set()
    for path in films:
        try:
            thumbnails.append(_thumbnail(path))
        except UnreadableCase:
            unreadable.add(path)
    readable = [path for path in films if path not in unreadable]
    numbers = _alike(np.array(thumbnails)) if thumbnails else []
    return groups | {path: len(seen) + n for path, n in zip(readable, numbers, strict=True)}, unreadable


def _thumbnail(path: Path) -> NDArray[np.float32]:
    """A film of THUMBNAIL pixels a side, of mean 0 and length 1, flat. Raises UnreadableCase."""
    film = read_case(path).voxels
    small = np.asarray(cv2.resize(film, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA), np.float32).ravel()
    centred = small - small.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-6), np.float32)


def _alike(thumbnails: NDArray[np.float32], block: int = 2048) -> list[int]:
    """A number for each thumbnail [n, pixels], the same for those that are one picture; a block of rows at a time."""
    pairs = []
    for start in range(0, len(thumbnails), block):
        left, right = np.nonzero(thumbnails[start : start + block] @ thumbnails.T > SAME)
        pairs.append(np.stack([left + start, right]))
    left, right = np.concatenate(pairs, axis=1)
    size = (len(thumbnails), len(thumbnails))
    numbers = connected_components(csr_array((np.ones(len(left), bool), (left, right)), size), directed=False)[1]
    return [int(number) for number in numbers]


def _digest(path: Path) -> str:
    """Of a file, or of a folder's files whatever their names and order."""
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    digests = sorted(sha256(file.read_bytes()).hexdigest() for file in files)
    return sha256("".join(digests).encode()).hexdigest()
