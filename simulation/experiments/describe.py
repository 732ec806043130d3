"""What a paper's experiment is: its data, its arms, and its tables with the paper's own figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import sub
from typing import Any, Literal, TypeAlias

from simulation.datasets import division_of
from simulation.experiments.cohort import Cohort
from simulation.experiments.results import Split, UnitResult

ScaleName: TypeAlias = Literal["small", "results", "full"]
"""small: minutes on two cores; results: as far as hours of CPU allow; full: the recipes as published."""

Kind: TypeAlias = Literal["federated", "centralised", "alone"]

Measure: TypeAlias = Callable[[UnitResult], float | None]
"""A figure of one unit; None where it has none."""


@dataclass(frozen=True)
class Arm:
    """One training of the experiment, repeated at every seed.

    Attributes:
        name: of folders and tables.
        recipe: its name; `changes` to it by dotted key, for the arm and the scale.
        data: which of the experiment's data.
        kind: federated, all data in one place, or each hospital by itself.
        members: hospitals that take part; without any, all. Its models are tried on all of them all the same.
        start: the arm whose model it starts from.
        checkpoint: the arm whose model it takes as `network.pretrained`, with a new head.
        departures, arrivals: site: the round after which it leaves, or before which it joins.
        folds: it is repeated for each of so many folds of the first seed; centralised arms only.
        twin_of: the federated arm that this repeats without any cryptography, to show what that costs in accuracy.
        nudged: its first model's values are each the next float32, to show what training makes of the last bit.
        also: cases besides the test cases on which its models are tried.
        without: patterns of tensors left out of the weights that others take as their checkpoint: its own head.
        once: it is trained at the first seed alone, and all seeds of other arms go on from that.
    """

    name: str
    recipe: str
    data: str
    kind: Kind = "federated"
    changes: Mapping[str, Any] = field(default_factory=dict)
    members: Sequence[str] = ()
    start: str | None = None
    checkpoint: str | None = None
    departures: Mapping[str, int] = field(default_factory=dict)
    arrivals: Mapping[str, int] = field(default_factory=dict)
    folds: int | None = None
    once: bool = False
    twin_of: str | None = None
    nudged: bool = False
    also: Sequence[Split] = ()
    without: Sequence[str] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Arms that must be done before it."""
        return tuple(name for name in (self.start, self.checkpoint, self.twin_of) if name is not None)


def plaintext_twins(arm: Arm) -> list[Arm]:
    """The same training, its updates averaged in float64 without encryption or protocol; and that from a first model
    with another last bit, as training is chaotic and two runs end apart however alike they begin."""
    twin = replace(arm, name=f"{arm.name}-plaintext", twin_of=arm.name)
    return [twin, replace(twin, name=f"{twin.name}-last-bit", nudged=True)]


@dataclass(frozen=True)
class Figure:
    """A cell of a paper's table: an arm's figure, and what the paper printed (a number, or with its own spread).

    against: the arm to whose figure at the same seed it is compared; by: how, from (own, other).
    """

    arm: str
    measure: Measure
    paper: str = ""
    against: str = ""
    by: Callable[[float, float], float] = sub


@dataclass(frozen=True)
class Column:
    heading: str
    unit: Literal["percent", "gain", "points", "area", "plain", "seconds", "whole"] = "plain"


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper. place: where the paper has it. rows: what each is about, and its figures by column."""

    key: str
    title: str
    place: str
    columns: Sequence[Column]
    rows: Sequence[tuple[str, Sequence[Figure | None]]]
    note: str = ""


@dataclass(frozen=True)
class Reader:
    """A person's operating point, as the paper gives it. name: where it is no single person's."""

    sensitivity: float
    specificity: float
    name: str = ""


@dataclass(frozen=True)
class Group:
    """Arms that are shown side by side. The first is compared with each of the others, the last one its control.

    control: the arm whose final figure the others' rounds are counted to. sites: hospitals on whose held-out cases they
    are compared; without any, all. curves: whether their rounds belong on one axis. readers: of a class, to be shown
    beside its ROC curves.
    """

    key: str
    title: str
    arms: Sequence[str]
    control: str | None = None
    sites: Sequence[str] = ()
    curves: bool = True
    readers: Mapping[str, Sequence[Reader]] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """Its title, with the hospitals on whose cases it compares where these are not all."""
        return f"{self.title} ({', '.join(self.sites)})" if self.sites else self.title


SAME_ROUNDS = "As many rounds for each: twice the epochs are twice the training."


@dataclass(frozen=True)
class Sweep:
    """Arms that differ in one number: value: arm. note: what else differs with it."""

    key: str
    title: str
    what: str
    arms: Mapping[float, str]
    note: str = ""


@dataclass(frozen=True)
class Experiment:
    """All that is run and shown for one paper.

    division: how cases were divided among hospitals where that is not the experiment's own way; for the report's head.
    """

    name: str
    title: str
    paper: str
    lead: Sequence[str]
    data: Mapping[str, Cohort]
    arms: Sequence[Arm]
    tables: Sequence[PaperTable]
    groups: Sequence[Group]
    sweeps: Sequence[Sweep] = ()
    division: str | None = None

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def divided(self, division: str) -> Experiment:
        """The same with cases divided among hospitals in another way.

        Raises:
            ValueError: there is no such way, or its hospitals are what the experiment is about.
        """
        division_of(division)
        if any(cohort.division == "source" for cohort in self.data.values()):
            raise ValueError(f"the hospitals of {self.name} are its scanners: --division does not apply")
        data = {name: replace(cohort, division=division) for name, cohort in self.data.items()}
        return replace(self, data=data, division=division)
