"""What a check looks at in each case: the case is read once, whole, and only these facts are kept of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.recipe import Recipe
from participant.data.cases import Case, Search, Split
from participant.data.checks.features import FEATURES
from participant.data.checks.headers import Header, header_of
from participant.data.checks.lettering import text_lines
from participant.data.checks.pictures import sketch, thumbnail
from participant.data.checks.report import named
from participant.data.errors import UnreadableCase
from participant.data.readers import read_case
from participant.data.volume import HU_RANGE, Modality, Volume

EDGES: Final[Mapping[Modality, NDArray[np.float64]]] = {
    "ct": np.linspace(-1000, 1000, 65),
    "xray": np.linspace(0, 1, 65),
}


@dataclass(frozen=True)
class Facts:
    """What is known of a case that can be read.

    digest: of its pixels as read, whatever file they came from. text_lines: rows of letters that its image seems to
    have. features: by their names in FEATURES. sketch: see `pictures.sketch`.
    histogram (64,): shares of the pixels in the bins of EDGES. thumbnail: a data URI.
    """

    case: Case
    name: str
    header: Header
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    axes: str
    mean: float
    deviation: float
    digest: str
    text_lines: int
    features: Mapping[str, float]
    sketch: NDArray[np.float32]
    histogram: NDArray[np.float64]
    thumbnail: str


@dataclass(frozen=True)
class Data:
    """What the checks look at.

    found: as `search` left it. facts: of the cases that can be read, ordered by path; the others are `unreadable`.
    split: of each case by path; where a table puts a patient into two, as if it had said nothing of that patient.
    """

    recipe: Recipe
    root: Path
    found: Search
    facts: Sequence[Facts]
    unreadable: Sequence[UnreadableCase]
    split: dict[Path, Split]

    def of_class(self, label: int) -> list[Facts]:
        return [each for each in self.facts if each.case.label == label]


def facts_of(case: Case, root: Path, modality: Modality) -> Facts:
    """Raises UnreadableCase, also where the recipe is for the other kind of image."""
    volume = read_case(case.path)
    if volume.modality != modality:
        kinds = {"ct": "a CT", "xray": "an X-ray film"}
        what = f"is {kinds[volume.modality]}, and the recipe takes {kinds[modality]}"
        raise UnreadableCase(case.path, what, "Leave this case out, or choose another recipe")
    edges = EDGES[modality]
    counted, _ = np.histogram(np.clip(volume.voxels, edges[0], edges[-1]), edges)
    return Facts(
        case,
        named(case.path, root),
        header_of(case.path),
        volume.voxels.shape,
        volume.spacing,
        volume.stored_axes,
        mean=float(volume.voxels.mean()),
        deviation=float(volume.voxels.std()),
        digest=_digest(volume),
        text_lines=_text_lines(volume),
        features={feature.name: feature.of(volume) for feature in FEATURES[modality]},
        sketch=sketch(volume),
        histogram=counted / volume.voxels.size,
        thumbnail=thumbnail(volume),
    )


def _digest(volume: Volume) -> str:
    digest = hashlib.sha256(repr(volume.voxels.shape).encode())
    digest.update(np.ascontiguousarray(volume.voxels).data)
    return digest.hexdigest()


def _text_lines(volume: Volume) -> int:
    """Of a CT, in the slice that has most: letters are burnt into all of them or into a few at the ends."""
    if volume.modality == "xray":
        return text_lines(volume.voxels)
    low, high = HU_RANGE
    places = np.unique(np.linspace(0, len(volume.voxels) - 1, 5).astype(int))
    return max(text_lines((volume.voxels[place] - low) / (high - low)) for place in places)
