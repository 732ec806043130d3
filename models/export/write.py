"""From a network to checked files in a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from models.export.agreement import check_agreement, trials_of
from models.export.description import describe
from models.export.formats import FORMATS, SUFFIXES, Format, Source, read, write
from models.export.predictor import Predictor, trial_inputs
from models.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that computes what the network does. difference: the largest of a score, as `check_agreement` gives it."""

    format: Format
    path: Path
    sha256: str
    size: int
    difference: float


def export_network(
    network: nn.Module,
    recipe: Recipe,
    digest: str,
    stem: Path,
    formats: Sequence[Format] = FORMATS,
    *,
    statistics: tuple[float, float] | None = None,
    folder: Path | None = None,
    said: Callable[[str], None] = lambda words: None,
) -> list[Exported]:
    """Write the network as STEM.safetensors, STEM.pt2 and STEM.onnx, and read each back before it has its name.

    A file that disagrees with the network never gets its name: it is removed. Those written before it stay.

    Args:
        network: with all its values; it is neither changed nor moved.
        digest: SHA-256 of the study's model file it came from, for the files' descriptions.
        statistics: mean and deviation that inputs are normalised with, where they are not the recipe's.
        folder: of the Python file of a researcher's own network.
        said: is told what is done next.

    Raises:
        ExportDisagrees: what was written computes something else.
        ExportUnavailable: a package that a format needs is missing.
    """
    predictor = Predictor(deepcopy(network).cpu().float()).eval()
    source = Source(predictor, recipe, describe(recipe, digest, statistics), folder)
    trials = trials_of(predictor, trial_inputs(recipe))
    made = []
    for chosen in formats:
        path = stem.with_name(stem.name + SUFFIXES[chosen])
        said(f"{path.name}: writing and checking")
        unchecked = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            write(chosen, unchecked, source)
            difference = check_agreement(path, read(chosen, unchecked, source), trials)
            unchecked.replace(path)
        finally:
            unchecked.unlink(missing_ok=True)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        made.append(Exported(chosen, path, sha256, path.stat().st_size, difference))
    return made
