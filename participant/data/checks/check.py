"""Looking through a hospital's data before any training: everything in one pass, which no single fault ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from models.recipe import Recipe
from participant.data.cases import SPLITS, Case, Split, search
from participant.data.checks import (
    burnt_in,
    cohort,
    duplicates,
    geometry,
    outliers,
    photometry,
    reading,
    shortcuts,
)
from participant.data.checks.facts import EDGES, Data, Facts, facts_of
from participant.data.checks.report import PICTURED, CaseRow, Finding, Histogram, Report, Severity
from participant.data.errors import UnreadableCase
from participant.data.splits import split_cases

_READERS: Final = 2  # at once: a CT takes a gigabyte or two while it is looked at
_SHOWN_OF_CLASS: Final = 12
_ORDER: Final[tuple[Severity, ...]] = ("error", "warning", "note")


def check(
    data_root: Path,
    recipe: Recipe,
    *,
    seed: int = 0,
    made: datetime | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Everything that a person should know of the data before a training with this recipe.

    Each case is read whole, so this takes about as long as preparing the cases for a training does. Nothing is raised
    for what is wrong with the data: it is in the report.

    Args:
        seed: the site's, which decides the split where no table does.
        made: the report's time, unless it is now.
        progress: called with (cases read, cases in all); may raise to end the check.
    """
    data = _looked_through(data_root, recipe, seed, progress)
    findings: list[Finding] = []
    for part in (reading, cohort, duplicates, photometry, burnt_in, geometry, shortcuts, outliers):
        findings += part.findings(data)
    findings.sort(key=lambda finding: _ORDER.index(finding.severity))
    return Report(
        made=made or datetime.now(UTC),
        data=str(data_root),
        recipe=recipe.name,
        recipe_digest=recipe.digest,
        modality=recipe.input.modality,
        classes=recipe.network.classes,
        counts=cohort.counts(data),
        findings=tuple(findings),
        cases=tuple(_row(each, data) for each in data.facts),
        edges=tuple(EDGES[recipe.input.modality].tolist()),
        histograms=tuple(chain.from_iterable(_histogram(data, label) for label in range(len(recipe.network.classes)))),
        thumbnails=_thumbnails(data, findings),
    )


def _looked_through(root: Path, recipe: Recipe, seed: int, progress: Callable[[int, int], None]) -> Data:
    found = search(root, recipe.network.classes)
    cases = sorted(found.cases, key=lambda case: case.path)
    facts: list[Facts] = []
    unreadable: list[UnreadableCase] = []
    readers = ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1))
    try:
        looks = readers.map(partial(_look, root=root, recipe=recipe), cases)
        for done, look in enumerate(looks, start=1):
            if isinstance(look, Facts):
                facts.append(look)
            else:
                unreadable.append(look)
            progress(done, len(cases))
    finally:
        readers.shutdown(cancel_futures=True)
    return Data(recipe, root, found, facts, unreadable, _split(cases, seed))


def _look(case: Case, root: Path, recipe: Recipe) -> Facts | UnreadableCase:
    try:
        return facts_of(case, root, recipe.input.modality)
    except UnreadableCase as error:
        return error


def _split(cases: Sequence[Case], seed: int) -> dict[Path, Split]:
    unclear = cohort.in_two_splits(cases)
    clear = [replace(case, split=None) if case.patient in unclear else case for case in cases]
    split = split_cases(clear, str(seed))
    return {case.path: name for name in SPLITS for case in split[name]}


def _row(facts: Facts, data: Data) -> CaseRow:
    return CaseRow(
        name=facts.name,
        label=data.recipe.network.classes[facts.case.label],
        split=data.split[facts.case.path],
        format=facts.header.format,
        size=" × ".join(map(str, facts.shape)),
        spacing=" × ".join(f"{mm:.2f}" for mm in facts.spacing or ()),
        mean=facts.mean,
        deviation=facts.deviation,
    )


def _histogram(data: Data, label: int) -> list[Histogram]:
    own = [each.histogram for each in data.of_class(label)]
    if not own:
        return []
    low, high = np.percentile(own, (10, 90), axis=0).tolist()
    name = data.recipe.network.classes[label]
    return [Histogram(label=name, cases=len(own), mean=np.mean(own, axis=0).tolist(), low=low, high=high)]


def _thumbnails(data: Data, findings: Sequence[Finding]) -> dict[str, str]:
    shown = {note.case for finding in findings for note in finding.cases[:PICTURED]}
    for label in range(len(data.recipe.network.classes)):
        own = data.of_class(label)
        places = np.linspace(0, len(own) - 1, min(_SHOWN_OF_CLASS, len(own))).astype(int) if own else ()
        shown.update(own[place].name for place in places)
    return {each.name: each.thumbnail for each in data.facts if each.name in shown}
