"""Radiologists' reads from a table, so that their points stand beside the model's curve.

reader,case,class                        what each reader called each case
reader,class,sensitivity,specificity     or how good each was found to be; of two classes the column class may lack,
                                         and the last class of the recipe is meant
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from participant.evaluation.predictions import Predictions

_READS: Final = ("reader", "case", "class")
_RATES: Final = ("reader", "sensitivity", "specificity")
_SUFFIXES: Final = (".nii.gz", ".nii", ".dcm", ".png", ".jpg", ".jpeg")

Row = Mapping[str, str]


class ReadersError(Exception):
    """A table of reads that cannot be used; the message lists every problem with its line and what to do."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        super().__init__(f"{path} cannot be used:\n" + "\n".join(f"  {each}" for each in problems))
        self.path, self.problems = path, tuple(problems)


@dataclass(frozen=True)
class Readers:
    """calls: {reader: {place of the case among the predictions: class}}. rates: {reader: {class: (sensitivity,
    specificity)}}. left_out: reads of cases that are in other splits."""

    calls: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    rates: Mapping[str, Mapping[int, tuple[float, float]]] = field(default_factory=dict)
    left_out: int = 0


def read_readers(path: Path, predictions: Predictions, root: Path) -> Readers:
    """The table's reads of the predicted cases.

    A case is named by its path under `root`, the data's folder, or by its file's or folder's name alone where no other
    case has that name; the ending may be left out.

    Raises:
        ReadersError: with every problem found.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            # A blank line is none; `line_num` counts it.
            rows = [(reader.line_num, row) for row in reader]
            columns = tuple(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReadersError(path, [f"it cannot be read ({error}): save it as CSV in UTF-8"]) from error
    classes = predictions.classes
    if set(_RATES) <= set(columns):
        table: _Rates | _Reads = _Rates(classes, with_class="class" in columns)
    elif set(_READS) <= set(columns):
        table = _Reads(classes, _names(predictions.paths, root), _names(predictions.elsewhere, root))
    else:
        had = ", ".join(columns) or "none"
        raise ReadersError(path, [f"line 1: the columns are {', '.join(_READS)} or {', '.join(_RATES)}, not {had}"])
    for number, row in rows:
        table.problems += [f"line {number}: {words}" for words in table.take({k: str(v) for k, v in row.items()})]
    if not rows:
        table.problems.append("line 2: there are no reads: write a line for each")
    if table.problems:
        raise ReadersError(path, table.problems)
    return table.readers


class _Table:
    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self.problems: list[str] = []

    def class_of(self, row: Row) -> tuple[int | None, list[str]]:
        name = row["class"].strip()
        if name in self.classes:
            return self.classes.index(name), []
        return None, [f"class {name!r} is none of the model's: {', '.join(self.classes)}"]

    def reader_of(self, row: Row) -> tuple[str, list[str]]:
        """The reader, and what is wrong with the line as such."""
        name = row["reader"].strip()
        problems = [] if name else ["the reader is missing: write a name or a letter"]
        if "" in row:
            problems.append("it has more fields than there are columns: put text with commas into quotes")
        return name, problems


class _Reads(_Table):
    def __init__(self, classes: Sequence[str], here: Mapping[str, set[int]], elsewhere: Mapping[str, set[int]]) -> None:
        super().__init__(classes)
        self._here, self._elsewhere = here, elsewhere
        self._calls: dict[str, dict[int, int]] = defaultdict(dict)
        self._left_out = 0

    def take(self, row: Row) -> list[str]:
        reader, problems = self.reader_of(row)
        called, wrong = self.class_of(row)
        problems += wrong
        name = row["case"].strip()
        places = self._here.get(name, set())
        others = self._elsewhere.get(name, set())
        if len(places) + len(others) > 1:
            problems.append(f"{len(places) + len(others)} cases are called {name!r}: write the path under the data")
        elif not places and not others:
            problems.append(f"there is no case {name!r} in this site's data: correct the name, or remove the line")
        elif others:
            self._left_out += 1
        elif next(iter(places)) in self._calls[reader]:
            problems.append(f"{reader} has read {name!r} on an earlier line: keep one of the two")
        elif called is not None:
            self._calls[reader][next(iter(places))] = called
        return problems

    @property
    def readers(self) -> Readers:
        return Readers(calls={name: calls for name, calls in self._calls.items() if calls}, left_out=self._left_out)


class _Rates(_Table):
    def __init__(self, classes: Sequence[str], *, with_class: bool) -> None:
        super().__init__(classes)
        self._with_class = with_class
        self._rates: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
        if not with_class and len(classes) > 2:
            self.problems.append(f"line 1: with {len(classes)} classes there has to be a column class: add it")

    def take(self, row: Row) -> list[str]:
        reader, problems = self.reader_of(row)
        label, wrong = self.class_of(row) if self._with_class else (len(self.classes) - 1, [])
        problems += wrong
        rates = [_share(row[name], name, problems.append) for name in _RATES[1:]]
        if label is None:
            return problems
        if label in self._rates[reader]:
            problems.append(f"{reader} has rates of {self.classes[label]} on an earlier line: keep one of the two")
        self._rates[reader][label] = (rates[0], rates[1])
        return problems

    @property
    def readers(self) -> Readers:
        if len(self.classes) == 2:  # who finds one of two classes excludes the other
            for rates in self._rates.values():
                for label, (sensitivity, specificity) in list(rates.items()):
                    rates.setdefault(1 - label, (specificity, sensitivity))
        return Readers(rates=self._rates)


def _share(text: str, name: str, complain: Callable[[str], None]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        complain(f"{name} is a share from 0 to 1, such as 0.85, not {text.strip()!r}")
    return value


def _names(paths: Sequence[Path], root: Path) -> dict[str, set[int]]:
    """By each name that a case may be called, the places of the cases that have it."""
    found: dict[str, set[int]] = defaultdict(set)
    for place, path in enumerate(paths):
        for name in _names_of(path, root):
            found[name].add(place)
    return found


def _names_of(path: Path, root: Path) -> Iterator[str]:
    under = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
    for name in (under, path.name):
        yield name
        yield from (name.removesuffix(end) for end in _SUFFIXES if name.endswith(end))
