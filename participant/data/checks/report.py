"""What a check of a hospital's data found, as values that can be kept, sent to a script or shown on a page.

No patient's id is in them; the names of cases are those of the hospital's own files. They stay on its machine.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict

from participant.data.cases import Split
from participant.data.volume import Modality

Severity: TypeAlias = Literal["error", "warning", "note"]

PICTURED: Final = 8  # of the cases that a finding names first, and have a picture


class Value(BaseModel):
    """Common to all: nothing unknown, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CaseNote(Value):
    """A case that a finding is about, by its name in the report, and what is particular to it."""

    case: str
    note: str = ""


class Finding(Value):
    """One kind of thing that a person should know.

    kind: a short name for scripts, always the same for the same thing. severity: with an "error" training cannot begin;
    a "warning" spoils what is learnt or measured; a "note" may be as it should be. what: one line. why: what it does to
    a training, and how it was found. fix: what to do.
    """

    kind: str
    severity: Severity
    what: str
    why: str
    fix: str
    cases: tuple[CaseNote, ...] = ()


class ClassCount(Value):
    """Readable cases and patients of one class: numbers by split."""

    label: str
    cases: dict[Split, int]
    patients: dict[Split, int]


class CaseRow(Value):
    """One case that could be read. size: as read, "148 × 512 × 512"; spacing in mm, "" where the file does not say."""

    name: str
    label: str
    split: Split
    format: str
    size: str
    spacing: str
    mean: float
    deviation: float


class Histogram(Value):
    """Intensities of one class: the share of an image in each bin. mean over its cases, low and high: the 10th and 90th
    percentile of them."""

    label: str
    cases: int
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Report(Value):
    """Everything that a check found.

    data: the folder. recipe, recipe_digest: what the cases were checked for. edges: of the histograms' bins, in HU or
    in [0, 1]. thumbnails: by case, small pictures as data URIs; of every case that a finding names first, and of some
    more, not of all.
    """

    format: Literal["pleura/data-report/v1"] = "pleura/data-report/v1"
    made: datetime
    data: str
    recipe: str
    recipe_digest: str
    modality: Modality
    classes: tuple[str, ...]
    counts: tuple[ClassCount, ...]
    findings: tuple[Finding, ...]
    cases: tuple[CaseRow, ...]
    edges: tuple[float, ...]
    histograms: tuple[Histogram, ...]
    thumbnails: dict[str, str]

    @property
    def can_train(self) -> bool:
        """Whether a training could begin."""
        return not self.of("error")

    def of(self, severity: Severity) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == severity]

    def to_json(self, *, pictures: bool = True) -> str:
        """Inverse of `from_json`; without pictures, a tenth of the size."""
        return self.model_dump_json(indent=2, exclude=None if pictures else {"thumbnails"})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The report.

        Raises:
            ValueError: it is none, or of another version.
        """
        return cls.model_validate_json(text)


def named(path: Path, root: Path) -> str:
    """A case's name in a report: where it lies under the data's folder."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
