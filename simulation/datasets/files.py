"""Files that are made from a set's files, and the table that a hospital's agent reads."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

from participant.data.cases import TABLE
from simulation.datasets.dataset import Row

COLUMNS = ("path", "label", "patient", "split", "view", "age", "sex", "source", "subtype", "modality", "part")


def write_table(folder: Path, rows: Iterable[Row]) -> Path:
    """FOLDER/labels.csv, with the paths under `folder` relative to it and all others absolute.

    Written beside and renamed: whoever finds the table finds it whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{TABLE}.{os.getpid()}"
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(_cells(row, folder) for row in rows)
    return unfinished.replace(folder / TABLE)


def _cells(row: Row, folder: Path) -> list[str]:
    # Not resolved: a site's case may be a link, whose own place is what the site knows.
    path = row.path.relative_to(folder) if row.path.is_relative_to(folder) else row.path.absolute()
    age = "" if row.age is None else f"{row.age:g}"
    others = (row.view, age, row.sex, row.source, row.subtype, row.modality, row.part)
    return [str(path), row.label, row.patient, row.split or "", *others]


def made_from(case: Path, folder: Path, how: str, suffix: str, make: Callable[[Path], None]) -> Path:
    """The file in `folder` that `make(path)` writes from `case`; one that is there already is taken as it is.

    Its name holds a digest of `how` and of the case's place, size and time of change, so that a run that goes on where
    it stopped finds the same files, and other settings give others.
    """
    stat = case.stat()
    key = "\0".join([how, str(case.resolve()), str(stat.st_size), str(stat.st_mtime_ns)])
    stem = case.name.split(".")[0]
    path = folder / f"{stem}-{sha256(key.encode()).hexdigest()[:16]}{suffix}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{os.getpid()}-{path.name}"
        make(unfinished)
        unfinished.replace(path)
    return path
