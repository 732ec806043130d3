"""Labels from a table or a worklist export, matched to cases by keyed hashes of whatever identifies them."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeAlias

from participant.data.importing.collection import CASES, Row
from participant.data.importing.pseudonyms import Pseudonyms
from participant.settings import ConfigError

Key: TypeAlias = tuple[str, str]

#: By what a line may name its case, the most exact first, and how exports call it (small letters and digits only).
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "file": ("path", "file", "filename"),
    "series": ("seriesinstanceuid", "seriesuid", "series"),
    "study": ("studyinstanceuid", "studyuid", "study"),
    "accession": ("accessionnumber", "accessionno", "accession"),
    "patient": ("patientid", "patient", "pid"),
}
_LABEL_NAMES: Final = ("label", "class", "diagnosis")


class Label(NamedTuple):
    """What a line says of a case. patient: what stands for whom it names, "" if nobody."""

    name: str
    split: str
    patient: str


class Labels(Protocol):
    """What says which label a case has."""

    def of(self, row: Row) -> Label | None:
        """The label of a case; None without one, or with several."""

    def contradicts(self, row: Row) -> bool:
        """Whether there are several labels for a case."""


@dataclass(frozen=True)
class OneClass:
    """The same class for all cases of one import, and nothing about others."""

    name: str
    cases: Collection[str]

    def of(self, row: Row) -> Label | None:
        return Label(self.name, "", "") if row.name in self.cases else None

    def contradicts(self, row: Row) -> bool:
        return False


@dataclass(frozen=True)
class LabelTable:
    """Labels by what cases are found by; no word of the table that identifies anybody is in it.

    lines: of each line its number and what it names. unusable: numbers of lines that name no case, or no class.
    """

    labels: Mapping[Key, Label]
    contradictory: frozenset[Key]
    lines: tuple[tuple[int, frozenset[Key]], ...]
    unusable: tuple[int, ...]

    def of(self, row: Row) -> Label | None:
        """By the most exact of what is said about the case."""
        key = self._key(row)
        return self.labels.get(key) if key else None

    def contradicts(self, row: Row) -> bool:
        return self._key(row) in self.contradictory

    def unmatched(self, rows: Iterable[Row]) -> list[int]:
        """The lines that no case answers to."""
        known = {key for row in rows for key in keys_of(row)}
        return [number for number, keys in self.lines if not keys & known]

    def _key(self, row: Row) -> Key | None:
        return next((key for key in keys_of(row) if key in self.labels or key in self.contradictory), None)


NOTHING: Final = LabelTable({}, frozenset(), (), ())


def keys_of(row: Row) -> list[Key]:
    """By what a line may name this case, the most exact first."""
    exact = [("case", row.path), *(("file", source) for source in row.sources.split())]
    named = [(kind, str(getattr(row, kind))) for kind in _NAMES if kind != "file"]
    return [*exact, *((kind, value) for kind, value in named if value)]


def read_labels(
    table: Path,
    pseudonyms: Pseudonyms,
    bases: Sequence[Path],
    *,
    column: str | None = None,
    classes: Mapping[str, str] | None = None,
) -> LabelTable:
    """The labels in a table whose cells are separated by comma, semicolon or tab.

    Args:
        bases: where paths in the table may start.
        column: which one holds the labels, if it has no usual name.
        classes: the class for what the table says, such as a diagnosis code; whatever else it says is no label then.

    Raises:
        ConfigError: it cannot be read, or lacks a column.
    """
    lines, columns = _lines(table, column)
    found: dict[Key, set[Label]] = defaultdict(set)
    named: list[tuple[int, frozenset[Key]]] = []
    unusable: list[int] = []
    for number, line in lines:
        cells = {kind: (line[name] or "").strip() for kind, name in columns.items()}
        name = cells["label"] if not classes else classes.get(cells["label"], "")
        kind = next((kind for kind in _NAMES if cells.get(kind)), None)
        if kind is None or not name:
            unusable.append(number)
            continue
        keys = _keys(kind, cells[kind], pseudonyms, bases)
        label = Label(name, cells.get("split", ""), pseudonyms.of("patient", cells.get("patient", "")))
        for key in keys:
            found[key].add(label)
        named.append((number, keys))
    contradictory = frozenset(key for key, labels in found.items() if len({label.name for label in labels}) > 1)
    agreed = {key: max(labels) for key, labels in found.items() if key not in contradictory}
    return LabelTable(agreed, contradictory, tuple(named), tuple(unusable))


def _keys(kind: str, value: str, pseudonyms: Pseudonyms, bases: Sequence[Path]) -> frozenset[Key]:
    if kind != "file":
        return frozenset({(kind, pseudonyms.of(kind, value))})
    if value.startswith(f"{CASES}/"):  # from unlabelled.csv
        return frozenset({("case", value)})
    return frozenset((kind, pseudonyms.of(kind, str((base / value).resolve()))) for base in bases)


def _lines(table: Path, column: str | None) -> tuple[list[tuple[int, dict[str, str]]], dict[str, str]]:
    """The table's lines with their numbers, and the column's name for each kind of word that is looked for."""
    text = _text(table)
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    given = {_plain(name): name for name in reader.fieldnames or ()}
    wanted = {"label": _LABEL_NAMES, "split": ("split",), **_NAMES}
    if column is not None:
        wanted["label"] = (_plain(column),)
    columns = {kind: given[name] for kind, names in wanted.items() for name in reversed(names) if name in given}
    shown = ", ".join(given.values()) or "none"
    if "label" not in columns:
        named = column or ", ".join(_LABEL_NAMES)
        raise ConfigError(f"{table} has no column {named}; it has: {shown}. Name the one with --label-column.")
    if not columns.keys() & _NAMES.keys():
        usual = "path, SeriesInstanceUID, StudyInstanceUID, AccessionNumber or PatientID"
        raise ConfigError(f"{table} has no column by which to find a case, such as {usual}; it has: {shown}. Add one.")
    return [(reader.line_num, line) for line in reader], columns


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.casefold())


def _text(table: Path) -> str:
    content = table.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")  # what spreadsheets on Windows write
