"""labels.csv and unlabelled.csv of the folder that importing fills."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from participant.data.cases import TABLE
from participant.data.importing.collection import Collection, Row
from participant.data.importing.labels import Label, Labels
from participant.files import write_whole
from participant.settings import ConfigError

UNLABELLED: Final = "unlabelled.csv"
_COLUMNS: Final = ("path", "label", "patient", "split")


@dataclass(frozen=True)
class Labelling:
    """What a labelling did. other: cases whose label in labels.csv is not the one that is given now, and stays."""

    labelled: int
    unlabelled: int
    contradictory: int
    other: int


def write_tables(collection: Collection, labels: Labels) -> Labelling:
    """Add the cases that have a label now to labels.csv, and list the others beside it.

    Lines that are in labels.csv already stay as they are: a person may have corrected them.

    Raises:
        ConfigError: labels.csv is not the table it should be.
    """
    file = collection.root / TABLE
    columns, lines = _read(file)
    listed = {line["path"]: line for line in lines}
    new, unlabelled, contradictory, other = [], [], 0, 0
    for row in collection.present():
        label = labels.of(row)
        if row.path in listed:
            other += label is not None and listed[row.path]["label"] != label.name
        elif label is not None:
            new.append(_line(row, label))
        else:
            contradictory += labels.contradicts(row)
            unlabelled.append(_line(row, Label("", "", "")))
    if new or not file.exists():
        _write(file, columns, [*lines, *new])
    _write(collection.root / UNLABELLED, _COLUMNS, unlabelled)
    return Labelling(len(new), len(unlabelled), contradictory, other)


def _line(row: Row, label: Label) -> dict[str, str]:
    """A case nobody knows the patient of counts as a patient of its own, or of its study's."""
    patient = row.patient or label.patient or row.study or row.name
    return {"path": row.path, "label": label.name, "patient": patient, "split": label.split}


def _read(file: Path) -> tuple[Sequence[str], list[dict[str, str]]]:
    if not file.exists():
        return _COLUMNS, []
    with file.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened)
        lines = list(reader)
    columns = tuple(reader.fieldnames or ())
    if {"path", "label"} - set(columns):
        raise ConfigError(
            f"{file} has no columns path and label any more. Put them back, or delete the file and label again."
        )
    return columns, lines


def _write(file: Path, columns: Sequence[str], lines: Sequence[Mapping[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(lines)
    write_whole(file, text.getvalue().encode())
