"""How cases lie in space: spacing, orientation, how much of the chest a scan covers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from participant.data.checks.facts import Data, Facts
from participant.data.checks.report import CaseNote, Finding

_OFF: Final = 2.0  # times the median, up or down
_LOWEST_CHEST: Final = 150.0  # mm: an adult's lungs are 200 to 300 mm high
_FRONTAL: Final = ("", "PA", "AP")


def findings(data: Data) -> list[Finding]:
    if data.recipe.input.modality == "xray":
        return [*_views(data.facts), *_small(data)]
    return [
        *_spacings(data.facts),
        *_short(data.facts),
        *_few_slices(data),
        *_stored_axes(data.facts),
        *_unknown_axes(data.facts),
    ]


def _spacings(facts: Sequence[Facts]) -> list[Finding]:
    known = [each for each in facts if each.spacing]
    if not known:
        return []
    between = np.array([each.spacing[0] for each in known if each.spacing])
    usual = float(np.median(between))
    off = [each for each, mm in zip(known, between, strict=True) if not usual / _OFF <= mm <= usual * _OFF]
    if not off:
        return []
    return [
        Finding(
            kind="spacing",
            severity="warning",
            what=f"{len(off)} of {len(known)} scans have slices much closer or further apart than most",
            why=f"Most have {usual:.1f} mm between slices. A network is given every n-th slice, so these look "
            "stretched or squashed to it.",
            fix="Where the archive has several reconstructions of a scan, take those of the usual spacing.",
            cases=tuple(CaseNote(case=each.name, note=f"{each.spacing[0]:.2f} mm") for each in off if each.spacing),
        )
    ]


def _short(facts: Sequence[Facts]) -> list[Finding]:
    heights = [(each, each.shape[0] * each.spacing[0]) for each in facts if each.spacing]
    short = [(each, height) for each, height in heights if height < _LOWEST_CHEST]
    if not short:
        return []
    return [
        Finding(
            kind="short-scan",
            severity="warning",
            what=f"{len(short)} scan{'s are' if len(short) > 1 else ' is'} lower than a chest",
            why=f"Below {_LOWEST_CHEST:.0f} mm a scan does not cover the lungs of an adult: a part of a series, or "
            "another part of the body.",
            fix="Look at them; send for the whole series, or leave them out.",
            cases=tuple(CaseNote(case=each.name, note=f"{height:.0f} mm") for each, height in short),
        )
    ]


def _few_slices(data: Data) -> list[Finding]:
    depth = data.recipe.input.size[0]
    few = [each for each in data.facts if each.shape[0] < depth]
    if not few:
        return []
    return [
        Finding(
            kind="few-slices",
            severity="warning",
            what=f"{len(few)} scan{'s have' if len(few) > 1 else ' has'} fewer slices than the network takes",
            why=f"It takes {depth}. Slices are repeated to fill it, so the network sees less than elsewhere.",
            fix="Take a reconstruction with thinner slices where there is one.",
            cases=tuple(CaseNote(case=each.name, note=f"{each.shape[0]} slices") for each in few),
        )
    ]


def _stored_axes(facts: Sequence[Facts]) -> list[Finding]:
    stored = Counter(each.axes for each in facts)
    if len(stored) < 2:
        return []
    (usual, number), *_ = stored.most_common()
    return [
        Finding(
            kind="orientation",
            severity="note",
            what=f"Scans are stored in {len(stored)} orientations; {number} of {len(facts)} in {usual}",
            why="The letters are where columns, rows and slices run to (L left, P back, S head ...). All are turned to "
            "one orientation when read, as their files say.",
            fix="Look at one of each below: the head up, the spine at the bottom of the slice, the heart on the right.",
            cases=tuple(CaseNote(case=each.name, note=each.axes) for each in facts if each.axes != usual),
        )
    ]


def _unknown_axes(facts: Sequence[Facts]) -> list[Finding]:
    unknown = [each for each in facts if not each.header.oriented]
    if not unknown:
        return []
    return [
        Finding(
            kind="unknown-orientation",
            severity="warning",
            what=f"{len(unknown)} NIfTI file{'s do' if len(unknown) > 1 else ' does'} not say which way they lie",
            why="Their headers have neither sform nor qform, so left and right, head and feet are guessed.",
            fix="Convert the DICOM series again with a converter that writes them, such as dcm2niix.",
            cases=tuple(CaseNote(case=each.name) for each in unknown),
        )
    ]


def _views(facts: Sequence[Facts]) -> list[Finding]:
    found = [each for each in facts if each.header.view not in _FRONTAL]
    if not found:
        return []
    return [
        Finding(
            kind="view",
            severity="warning",
            what=f"{len(found)} film{'s are' if len(found) > 1 else ' is'} not frontal",
            why="Recipes for chest films are trained on frontal ones (ViewPosition PA or AP).",
            fix="Leave them out.",
            cases=tuple(CaseNote(case=each.name, note=each.header.view) for each in found),
        )
    ]


def _small(data: Data) -> list[Finding]:
    height, width = data.recipe.input.size
    found = [each for each in data.facts if each.shape[0] < height or each.shape[1] < width]
    if not found:
        return []
    return [
        Finding(
            kind="small-film",
            severity="warning",
            what=f"{len(found)} film{'s are' if len(found) > 1 else ' is'} smaller than the network's input",
            why=f"It takes {height} × {width} pixels, and is given blurred ones where films are enlarged.",
            fix="Export them in full size.",
            cases=tuple(CaseNote(case=each.name, note=" × ".join(map(str, each.shape))) for each in found),
        )
    ]
