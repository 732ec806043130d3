"""Whether black is black: films stored inverted, films that were not turned back, and CTs without air."""

from __future__ import annotations

from typing import Final

import numpy as np

from participant.data.checks.facts import EDGES, Data, Facts
from participant.data.checks.report import CaseNote, Finding

_ENOUGH: Final = 8  # films, to know what most look like
_OPPOSITE: Final = -0.3  # correlation with the median film
_AIR: Final = -500.0  # HU; lungs lie between -900 and -700, the air around the body at -1000
_LEAST_AIR: Final = 0.01  # of a scan's voxels: even a cut that shows hardly any lung has more


def findings(data: Data) -> list[Finding]:
    if data.recipe.input.modality == "ct":
        return _airless(data)
    return [*_stored_inverted(data), *_look_inverted(data), *_coloured(data)]


def _airless(data: Data) -> list[Finding]:
    air = EDGES["ct"][1:] <= _AIR
    found = [each for each in data.facts if each.histogram[air].sum() < _LEAST_AIR]
    if not found:
        return []
    return [
        Finding(
            kind="no-air",
            severity="error",
            what=f"{len(found)} scan{'s hold' if len(found) > 1 else ' holds'} no air",
            why=f"Nothing in them is below {_AIR:.0f} HU, so they show no lung: a mask or a label map, or values that "
            "are not in Hounsfield units (often 1024 too high). A network would be fed what it never sees elsewhere.",
            fix="Take masks out of the folders of the classes, and write the others again in Hounsfield units.",
            cases=tuple(
                CaseNote(case=each.name, note=f"its lowest values are about {_lowest(each):.0f}") for each in found
            ),
        )
    ]


def _lowest(facts: Facts) -> float:
    """HU: the lower edge of the first bin that holds some voxels."""
    return float(EDGES["ct"][np.flatnonzero(facts.histogram)[0]])


def _stored_inverted(data: Data) -> list[Finding]:
    found = [each for each in data.facts if each.header.photometric == "MONOCHROME1"]
    if not found:
        return []
    return [
        Finding(
            kind="monochrome1",
            severity="note",
            what=f"{len(found)} of {len(data.facts)} films are stored inverted (MONOCHROME1)",
            why="Low values are meant to be shown bright. They are inverted when read, so that bone is bright in all.",
            fix="Look whether bone is bright below. If not, the archive wrote the wrong tag: export them again.",
            cases=tuple(CaseNote(case=each.name, note="MONOCHROME1") for each in found),
        )
    ]


def _look_inverted(data: Data) -> list[Finding]:
    if len(data.facts) < _ENOUGH:
        return []
    sketches = np.stack([each.sketch for each in data.facts])
    usual = np.median(sketches, axis=0)
    usual -= usual.mean()
    likeness = sketches @ usual / max(float(np.linalg.norm(usual)), 1e-9)
    found = [(each, value) for each, value in zip(data.facts, likeness, strict=True) if value < _OPPOSITE]
    if not found:
        return []
    return [
        Finding(
            kind="inverted",
            severity="warning",
            what=f"{len(found)} film{'s look' if len(found) > 1 else ' looks'} inverted",
            why="Bright where most of the others are dark: the correlation with the median film is negative. A network "
            "would learn from bone that looks like air.",
            fix="Look at them. Export those that are inverted again as DICOM, or invert the image files.",
            cases=tuple(CaseNote(case=each.name, note=f"correlation {value:.2f}") for each, value in found),
        )
    ]


def _coloured(data: Data) -> list[Finding]:
    found = [each for each in data.facts if each.header.photometric == "colour"]
    if not found:
        return []
    return [
        Finding(
            kind="coloured",
            severity="note",
            what=f"{len(found)} film{'s have' if len(found) > 1 else ' has'} coloured pixels",
            why="X-rays have no colour: it comes from arrows, stamps or a screen photographed. They are read as grey.",
            fix="Look at them, and take the film from the archive where it is a figure of a publication.",
            cases=tuple(CaseNote(case=each.name) for each in found),
        )
    ]
