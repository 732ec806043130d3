"""Whether a file computes what the network computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from models.export.predictor import Inputs, Predictor, scores_of

#: By how much a score may differ: this much, or this share of the largest score where that is above 1. Other orders of
#: the same float32 additions differ by less than a tenth of it; a probability moves by a quarter of it at most.
TOLERANCE: Final = 1e-4

Scores = Callable[[Inputs], Inputs]
"""The scores [batch, classes] that a file gives for inputs."""


class ExportDisagrees(Exception):
    """A file that was written computes something else than the network it came from."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Inputs, and the scores that the network itself gives for them."""

    inputs: Inputs
    expected: Inputs


def trials_of(predictor: Predictor, inputs: Sequence[Inputs]) -> list[Trial]:
    """What files are compared with.

    Raises:
        ExportDisagrees: the network has no finite scores for them.
    """
    trials = [Trial(each, scores_of(predictor, each)) for each in inputs]
    if not all(np.isfinite(trial.expected).all() for trial in trials):
        raise ExportDisagrees("the network gives scores that are no finite numbers, so that no file of it is of use")
    return trials


def check_agreement(file: Path, scores: Scores, trials: Sequence[Trial]) -> float:
    """The largest difference of a score, in the unit of `TOLERANCE`: a share of the largest score, or of 1.

    Scores are compared, not probabilities: where a network is sure, these are 0 and 1 whatever else differs.

    Raises:
        ExportDisagrees: more than the tolerance, scores of another shape, or such as are no numbers.
    """
    worst = 0.0
    for trial in trials:
        found = scores(trial.inputs)
        if found.shape != trial.expected.shape:
            raise ExportDisagrees(f"{file.name} gives scores {list(found.shape)} for {list(trial.inputs.shape)}")
        apart = float(np.abs(found - trial.expected).max() / max(1.0, float(np.abs(trial.expected).max())))
        worst = max(worst, apart) if np.isfinite(apart) else np.inf
    if worst > TOLERANCE:
        raise ExportDisagrees(
            f"{file.name} and the network differ by {worst:.2g} in a score, where {TOLERANCE:g} is allowed: "
            "the file was removed. Please report this with the versions of torch, onnx and onnxruntime"
        )
    return worst
