"""A set of cases as a value: which files show what, of whom, from where, on what terms, and what was left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from participant.data.cases import Case, Split
from participant.data.volume import Modality

Sex: TypeAlias = Literal["F", "M", ""]


@dataclass(frozen=True)
class Row:
    """One film or CT. "" and None stand for what the set does not say; age is in years.

    view: "PA", "AP", "lateral" and the like. subtype: a finer diagnosis than `label`. part: which slab of a patient's
    CT, where it was cut (see `cut_into_slabs`).
    """

    path: Path
    label: str
    patient: str
    modality: Modality
    view: str = ""
    age: float | None = None
    sex: Sex = ""
    source: str = ""
    split: Split | None = None
    subtype: str = ""
    part: str = ""


@dataclass(frozen=True)
class Terms:
    """On what terms a set may be used, where it is from, and what nobody who sees a figure from it may overlook."""

    licence: str
    citation: str
    warning: str = ""


@dataclass(frozen=True)
class Excluded:
    """A row that was left out."""

    row: Row
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Cases in the order of their paths, with the classes' names in the order in which tables show them.

    `excluded` remembers every row that a filter or a sampling took out, so that a table can tell of it.
    """

    name: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    terms: Terms
    excluded: tuple[Excluded, ...] = ()

    @property
    def modality(self) -> Modality:
        """Of the first case: CTs and films are not mixed in one study."""
        return self.rows[0].modality

    @property
    def patients(self) -> frozenset[str]:
        return frozenset(row.patient for row in self.rows)

    def count_by_class(self, split: Split | None = None) -> dict[str, int]:
        """Cases of each class, in all splits or in one."""
        counts = Counter(row.label for row in self.rows if split is None or row.split == split)
        return {name: counts[name] for name in self.classes}

    def without(self, reason: str, unwanted: Callable[[Row], bool]) -> Dataset:
        """The set without the rows for which `unwanted` holds; they are remembered with `reason`."""
        taken = tuple(Excluded(row, reason) for row in self.rows if unwanted(row))
        kept = tuple(row for row in self.rows if not unwanted(row))
        return replace(self, rows=kept, excluded=(*self.excluded, *taken))

    def of_classes(self, classes: Iterable[str], names: Mapping[str, str] | None = None) -> Dataset:
        """The set as a study with `classes` sees it: labels renamed by `names`, the rows of other classes left out.

        Several labels may become one class, such as {"normal": "other", "pneumonia": "other"}.
        """
        wanted, names = tuple(classes), names or {}
        renamed = replace(self, rows=tuple(replace(row, label=names.get(row.label, row.label)) for row in self.rows))
        chosen = renamed.without("is of no class of this study", lambda row: row.label not in wanted)
        return replace(chosen, classes=wanted)

    def with_rows(self, rows: Iterable[Row]) -> Dataset:
        """The same set with other rows, such as those of one hospital, or of files made from these."""
        return replace(self, rows=tuple(rows))


def by_patient(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Each patient's rows."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row.patient].append(row)
    return dict(grouped)


def case_of(row: Row, classes: tuple[str, ...]) -> Case:
    """The row as a site's agent sees it."""
    return Case(row.path, classes.index(row.label), row.patient, row.split)
