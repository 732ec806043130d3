"""One case as it was looked at: the scan, what each model makes of it, and what radiologists outlined."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from participant.data.volume import Volume
from participant.diagnosis.contours import Mask, mask_of
from participant.diagnosis.intake import Scan, take_in, unpacked
from participant.diagnosis.limits import Limits
from participant.diagnosis.look import Opinion, look
from participant.diagnosis.models import Model
from participant.diagnosis.series import Series

NOTICE: Final = "Research use only. Not a medical device. Not for diagnosis or treatment."
COVID: Final = "covid-19"  # the class whose severity is graded
Steps = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""


@dataclass(frozen=True, eq=False)
class Case:
    """voxels: [slices, height, width], int16 HU of a CT; one slice of float32 in [0, 1] of a film.

    spacing: mm (depth, height, width), None where the file did not say. opinions: one a model, in the order in which
    they were chosen. grade: that of COVID-19, where a model for it is there and one of the others takes it for that.
    """

    voxels: NDArray[np.int16] | NDArray[np.float32]
    spacing: tuple[float, float, float] | None
    opinions: tuple[Opinion, ...]
    grade: Opinion | None
    outlined: Mask | None
    series: Series | None
    notes: tuple[str, ...]

    @property
    def is_ct(self) -> bool:
        return self.voxels.dtype == np.int16

    @property
    def slices(self) -> int:
        return len(self.voxels)


def examine(
    files: Sequence[Path],
    contours: Sequence[Path],
    models: Sequence[Model],
    *,
    grading: Model | None = None,
    limits: Limits | None = None,
    steps: Steps = lambda what, done, total: None,
) -> Case:
    """Look at the one scan among `files` with each model. What is unpacked lies in a temporary folder meanwhile.

    Raises:
        Refused: there is no scan that can be read, contours that are not its own, or a model of another kind of image.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="pleura-case-") as name:
        folder = Path(name)
        steps("Reading the scan", 0, 1)
        scan = take_in(files, folder, limits)
        (folder / "contours").mkdir()
        outlined = mask_of([*scan.contours, *unpacked(contours, folder / "contours", limits)], scan)
    opinions = tuple(_looked(scan.volume, model, steps) for model in models)
    grade = _looked(scan.volume, grading, steps) if grading is not None and any(map(_is_covid, opinions)) else None
    return _case(scan, opinions, grade, outlined)


def _looked(volume: Volume, model: Model, steps: Steps) -> Opinion:
    what = f"Looking with {model.file.title}"
    steps(what, 0, 1)
    return look(volume, model, lambda done, total: steps(what, done, total))


def _is_covid(opinion: Opinion) -> bool:
    return opinion.model.classes[opinion.likeliest] == COVID


def _case(scan: Scan, opinions: tuple[Opinion, ...], grade: Opinion | None, outlined: Mask | None) -> Case:
    volume = scan.volume
    spacing = volume.spacing
    if volume.modality == "ct":
        voxels = np.rint(volume.voxels).astype(np.int16)  # half of the memory, for as long as somebody looks at it
        full = None if spacing is None else (spacing[0], spacing[1], spacing[2])
        return Case(voxels, full, opinions, grade, outlined, scan.series, scan.notes)
    film = volume.voxels[None]
    full = None if spacing is None else (1.0, spacing[0], spacing[1])
    return Case(film, full, opinions, grade, outlined if outlined is None else outlined[None], scan.series, scan.notes)
