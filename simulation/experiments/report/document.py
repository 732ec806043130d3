"""A report as a value, before it is HTML, Markdown, CSV or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from matplotlib.figure import Figure

Unit: TypeAlias = Literal[
    "percent", "gain", "points", "area", "plain", "seconds", "whole", "megabytes", "probability", "difference"
]
"""How a figure is printed. A percent and an area (under a curve) are shares, in [0, 1] until they are printed.

A gain is a percentage, points are percentage points; both are shares until they are printed, with a sign.
"""

SHARES: tuple[Unit, ...] = ("percent", "area")
SIGNED: tuple[Unit, ...] = ("gain", "points", "difference")

_SCALE: dict[Unit, float] = {"percent": 100.0, "gain": 100.0, "points": 100.0, "megabytes": 1e-6}
_DIGITS: dict[Unit, int] = {
    "percent": 1,
    "gain": 1,
    "points": 1,
    "area": 3,
    "plain": 3,
    "seconds": 1,
    "whole": 0,
    "megabytes": 2,
    "probability": 3,
    "difference": 3,
}


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; `count` values were averaged, and of one there is no interval.

    among: trainings that there were, where not all of them have such a figure.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    count: int = 1
    unit: Unit = "plain"
    among: int | None = None

    @property
    def text(self) -> str:
        return shown(self.mean, self.unit)

    @property
    def scaled(self) -> tuple[float, float | None, float | None]:
        """Mean, low and high in the unit in which they are printed."""
        scale = _SCALE.get(self.unit, 1.0)
        ends = [None if end is None else end * scale for end in (self.low, self.high)]
        return self.mean * scale, ends[0], ends[1]

    @property
    def interval(self) -> str:
        """ "0.88 to 0.94", or nothing where all values were as good as one; "of 1 in 3" where some have no figure."""
        return "; ".join(part for part in (self._ends, self._known) if part)

    @property
    def _ends(self) -> str:
        if self.low is None or self.high is None:
            return ""
        ends = shown(self.low, self.unit), shown(self.high, self.unit)
        return "" if set(ends) == {self.text} else f"{ends[0]} to {ends[1]}"

    @property
    def _known(self) -> str:
        return "" if self.among is None else f"of {self.count} in {self.among}"


@dataclass(frozen=True)
class Published:
    """A figure of the paper, as printed there: never ours."""

    text: str


Cell: TypeAlias = str | Estimate | Published


@dataclass(frozen=True)
class Table:
    """`key`: the name of its CSV file. Rows begin with what they are about."""

    key: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """`key`: the name of its PNG file. `words` say what is to be seen, for those who do not see it. `wide`: alone in
    its row."""

    key: str
    title: str
    figure: Figure
    words: str
    wide: bool = False


Part: TypeAlias = Table | Picture | str


@dataclass(frozen=True)
class Section:
    """Text, tables and pictures under one heading, in their order."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Report:
    """All of it. `facts` are shown beside the title: what was run, where, when."""

    title: str
    lead: Sequence[str]
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section] = field(default_factory=tuple)

    @property
    def tables(self) -> list[Table]:
        return [part for section in self.sections for part in section.parts if isinstance(part, Table)]

    @property
    def pictures(self) -> list[Picture]:
        return [part for section in self.sections for part in section.parts if isinstance(part, Picture)]


def shown(value: float, unit: Unit) -> str:
    """A figure as it is printed, without its unit's sign."""
    if unit == "probability" and value < 0.001:
        return "< 0.001"
    sign = "+" if unit in SIGNED else ""
    return f"{value * _SCALE.get(unit, 1.0):{sign},.{_DIGITS[unit]}f}"
