"""Finding a hospital's cases, with their classes and patients: one folder per class, or a table.

ROOT/covid-19/P001/*.dcm                 a folder per class, in it a folder, a volume or a film per case
ROOT/labels.csv                          columns path (or file) and label; patient (or patient_id) and split if known
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from participant.data.errors import DataProblems, UnreadableCase
from participant.data.readers import is_case, patient_of

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
TABLE = "labels.csv"


@dataclass(frozen=True)
class Case:
    """One CT volume or film: where it is, its class as an index, whose it is, and its split where a table says so."""

    path: Path
    label: int
    patient: str
    split: Split | None = None


@dataclass(frozen=True)
class CaseList:
    """The cases under one root, ordered by path. `warnings` say what a person should know though training can go on."""

    root: Path
    classes: tuple[str, ...]
    cases: tuple[Case, ...]
    warnings: tuple[str, ...]

    def count_by_class(self) -> tuple[int, ...]:
        """Cases of each class, in the order of `classes`."""
        counts = Counter(case.label for case in self.cases)
        return tuple(counts[label] for label in range(len(self.classes)))


@dataclass
class Search:
    """What a search collects on its way: cases, what keeps others from being used, and what a person should know."""

    cases: list[Case] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find_cases(root: Path, classes: Sequence[str], table: Path | None = None) -> CaseList:
    """The cases under `root` whose classes are named as in `classes`.

    Taken from `table`, or from ROOT/labels.csv where there is one, otherwise from one folder per class. Nothing but
    DICOM headers is read. Raises DataProblems with all problems at once; a class without cases is only a warning, since
    a hospital may see one disease alone.
    """
    found = search(root, classes, table)
    found.problems += patients_in_two_splits(found.cases)
    if found.problems:
        raise DataProblems(table or root, found.problems)
    listed = CaseList(
        root, tuple(classes), tuple(sorted(found.cases, key=lambda case: case.path)), tuple(found.warnings)
    )
    empty = [f"class {name} has no cases" for name, n in zip(classes, listed.count_by_class(), strict=True) if n == 0]
    return CaseList(root, listed.classes, listed.cases, (*listed.warnings, *empty, *_one_patient_only(listed.cases)))


def search(root: Path, classes: Sequence[str], table: Path | None = None) -> Search:
    """As `find_cases`, but problems are part of the result; whether a patient is in two splits is not looked at."""
    if not root.is_dir():
        return Search(problems=["the folder does not exist; correct the path of the data in the configuration"])
    table = table or (root / TABLE if (root / TABLE).is_file() else None)
    found = _from_table(table, classes) if table else _from_folders(root, classes)
    if not found.cases and not found.problems:
        found.problems.append(f"no case found; expected folders named {', '.join(classes)}, or a {TABLE}")
    return found


def patients_in_two_splits(cases: Iterable[Case]) -> list[str]:
    """A problem for each patient whom a table puts into more than one split: the test would then be no test."""
    splits: dict[str, set[str]] = {}
    for case in cases:
        if case.split is not None:
            splits.setdefault(case.patient, set()).add(case.split)
    return [
        f"patient {patient} is in the splits {' and '.join(sorted(named))}; put all cases of a patient into one"
        for patient, named in sorted(splits.items())
        if len(named) > 1
    ]


def _one_patient_only(cases: Sequence[Case]) -> list[str]:
    patients = {case.patient for case in cases}
    if len(cases) > 1 and len(patients) == 1:
        return [f"all {len(cases)} cases belong to one patient: if de-identification wrote the same id everywhere, "
                "use a table"]  # fmt: skip
    return []


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _from_folders(root: Path, classes: Sequence[str]) -> Search:
    found = Search()
    for folder in [path for path in _visible(root) if path.is_dir()]:
        if folder.name not in classes:
            found.problems.append(
                f"folder {folder.name} is no class of this study; known classes: {', '.join(classes)}"
            )
            continue
        for path in _visible(folder):
            if is_case(path):
                _add(found, path, classes.index(folder.name))
            else:
                found.warnings.append(f"{path} was passed over: its format is not read")
    return found


def _add(found: Search, path: Path, label: int, patient: str = "", split: Split | None = None) -> None:
    if path.is_dir() and not any(path.iterdir()):
        found.problems.append(f"{path} is an empty folder; remove it, or put the series back")
        return
    try:
        found.cases.append(Case(path, label, patient or patient_of(path), split))
    except UnreadableCase as error:
        found.problems.append(str(error))


def _from_table(table: Path, classes: Sequence[str]) -> Search:
    found = Search()
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found.problems.append(f"the table cannot be read ({error}); save it as CSV in UTF-8")
        return found
    columns = set(rows[0]) if rows else set()
    path_column = "path" if "path" in columns else "file"
    for name, wanted in ((path_column, "path (or file)"), ("label", "label")):
        if name not in columns:
            found.problems.append(f"the table has no column {wanted}; add it")
    if found.problems:
        return found
    seen: set[Path] = set()
    for line, row in enumerate(rows, start=2):
        path = table.parent / (row[path_column] or "").strip()
        before = len(found.problems)
        label, split = _label(row, line, classes, found), _split(row, line, found)
        if path in seen:
            found.problems.append(f"line {line}: {row[path_column]} is listed twice")
        elif not (row[path_column] or "").strip() or not path.exists():
            found.problems.append(f"line {line}: {path} does not exist; correct the path, or remove the line")
        seen.add(path)
        if len(found.problems) == before:
            _add(found, path, label, (row.get("patient") or row.get("patient_id") or "").strip(), split)
    return found


def _label(row: dict[str, str], line: int, classes: Sequence[str], found: Search) -> int:
    label = (row["label"] or "").strip()
    if label in classes:
        return classes.index(label)
    found.problems.append(
        f"line {line}: label {label!r} is no class of this study; known classes: {', '.join(classes)}"
    )
    return -1


def _split(row: dict[str, str], line: int, found: Search) -> Split | None:
    named = (row.get("split") or "").strip()
    for split in SPLITS:
        if named == split:
            return split
    if named:
        found.problems.append(f"line {line}: split {named!r} is unknown; use {', '.join(SPLITS)}, or leave it empty")
    return None
