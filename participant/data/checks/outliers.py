"""Cases unlike the rest: a knee among chests, a scout view, a film with a white frame."""

from __future__ import annotations

from typing import Final

import numpy as np

from participant.data.checks.facts import Data
from participant.data.checks.features import FEATURES
from participant.data.checks.report import CaseNote, Finding

_ENOUGH: Final = 12  # cases, to know what is usual
_FAR: Final = 6.0  # robust z-score: of normal values, one in 500 million is further off


def findings(data: Data) -> list[Finding]:
    if len(data.facts) < _ENOUGH:
        return []
    features = FEATURES[data.recipe.input.modality]
    values = np.array([[each.features[feature.name] for feature in features] for each in data.facts])
    usual = np.median(values, axis=0)
    # 1.4826 times the median deviation is the standard deviation, were it not for the outliers. Where nearly all are
    # alike it is nearly 0, and every difference would be far off.
    spread = np.maximum(1.4826 * np.median(np.abs(values - usual), axis=0), [feature.least for feature in features])
    scores = (values - usual) / spread
    furthest = np.abs(scores).argmax(axis=1)
    far = [(row, int(column)) for row, column in enumerate(furthest) if abs(scores[row, column]) > _FAR]
    if not far:
        return []
    far.sort(key=lambda found: -abs(scores[found]))
    return [
        Finding(
            kind="unlike-the-rest",
            severity="note",
            what=f"{len(far)} of {len(data.facts)} cases are unlike the rest",
            why="A figure of theirs lies far from that of most: its distance from the median is more than "
            f"{_FAR:g} times the spread (a robust z-score). The furthest come first.",
            fix="Look at them: another part of the body, a wrong export, a frame around the film? A severe disease may "
            "be right.",
            cases=tuple(
                CaseNote(
                    case=data.facts[row].name,
                    note=f"{features[column].name}: {values[row, column]:.3g}, usually {usual[column]:.3g} "
                    f"(z-score {scores[row, column]:+.0f})",
                )
                for row, column in far
            ),
        )
    ]
