"""Dividing a set's patients among hospitals: who goes where, by which rule.

No rule parts a patient's cases. What differs is how unlike the hospitals become, which is what federated learning finds
hard: their classes (`Dirichlet`, `Skew`), their sizes (`ByQuantity`), their sources (`BySource`), or nothing (`Iid`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from participant.data.errors import DataError
from simulation.datasets.dataset import Dataset, by_patient

Places: TypeAlias = dict[str, int]


class CannotDivide(DataError):
    """The set has too few patients or sources for so many hospitals."""


@dataclass(frozen=True)
class Patient:
    """Who is sent to a hospital, with the source of the first case."""

    name: str
    source: str


#: The patients of each class in random order. Who is in several classes counts for the first of them.
Classes: TypeAlias = Sequence[Sequence[Patient]]


def shuffled(dataset: Dataset, rng: np.random.Generator) -> list[list[Patient]]:
    """The patients of each class, in the classes' order, in random order."""
    owned = by_patient(dataset.rows)
    placed: set[str] = set()
    classes = []
    for label in dataset.classes:
        names = sorted({row.patient for row in dataset.rows if row.label == label} - placed)
        placed |= set(names)
        classes.append([Patient(str(name), owned[str(name)][0].source) for name in rng.permutation(names)])
    return classes


@dataclass(frozen=True)
class Iid:
    """Every hospital has its equal share of each class: patients are dealt out in turn."""

    def places(self, classes: Classes, sites: int, rng: np.random.Generator) -> Places:
        everyone = [patient for patients in classes for patient in patients]
        return {patient.name: turn % sites for turn, patient in enumerate(everyone)}


@dataclass(frozen=True)
class ByQuantity:
    """Each hospital is `ratio` times as large as the next, all with the same classes."""

    ratio: float = 2.0

    def __post_init__(self) -> None:
        _check(self.ratio > 0, "the ratio of sizes must be over 0")

    def places(self, classes: Classes, sites: int, rng: np.random.Generator) -> Places:
        shares = [self.ratio**-site for site in range(sites)]
        return _by_shares(classes, [shares] * len(classes))


@dataclass(frozen=True)
class Dirichlet:
    """The hospitals' shares of each class are drawn from a symmetric Dirichlet distribution.

    The smaller `alpha`, the more one hospital has most of a class. (Hsu, Qi and Brown, arXiv:1909.06335; class by class
    as Yurochkin et al., ICML 2019.) Drawn again until every hospital has `least` patients.
    """

    alpha: float = 0.5
    least: int = 3

    def __post_init__(self) -> None:
        _check(self.alpha > 0, "alpha must be over 0")

    def places(self, classes: Classes, sites: int, rng: np.random.Generator) -> Places:
        for _ in range(1000):
            places = _by_shares(classes, [rng.dirichlet([self.alpha] * sites).tolist() for _ in classes])
            if np.bincount(list(places.values()), minlength=sites).min() >= self.least:
                return places
        raise CannotDivide(
            f"no draw with alpha {self.alpha:g} gives each of {sites} hospitals {self.least} of the "
            f"{sum(map(len, classes))} patients: take fewer hospitals, or a larger alpha"
        )


@dataclass(frozen=True)
class Skew:
    """Each class has a hospital that sees `share` of its patients; the others see the rest in equal parts."""

    share: float = 0.6

    def __post_init__(self) -> None:
        _check(0 <= self.share <= 1, "the share at a class's own hospital must be from 0 to 1")

    def places(self, classes: Classes, sites: int, rng: np.random.Generator) -> Places:
        places: Places = {}
        for label, patients in enumerate(classes):
            home = label % sites
            others = [site for site in range(sites) if site != home]
            for rank, patient in enumerate(patients):
                at_home = rank < self.share * len(patients) or not others
                places[patient.name] = home if at_home else others[rank % len(others)]
        return places


@dataclass(frozen=True)
class BySource:
    """Every source is a hospital's; of more sources than hospitals, the smaller ones share a hospital."""

    def places(self, classes: Classes, sites: int, rng: np.random.Generator) -> Places:
        everyone = [patient for patients in classes for patient in patients]
        sizes: dict[str, int] = {}
        for patient in everyone:
            sizes[patient.source] = sizes.get(patient.source, 0) + 1
        if len(sizes) < sites:
            raise CannotDivide(
                f"the set has {len(sizes)} sources ({', '.join(sorted(sizes))}), too few for {sites} hospitals"
            )
        full = [0] * sites
        home = {}
        for source in sorted(sizes, key=lambda name: (-sizes[name], name)):
            home[source] = int(np.argmin(full))
            full[home[source]] += sizes[source]
        return {patient.name: home[patient.source] for patient in everyone}


Division: TypeAlias = Iid | ByQuantity | Dirichlet | Skew | BySource


def division_of(text: str) -> Division:
    """A rule as written on a command line: iid, source, skew[:SHARE], quantity[:RATIO], dirichlet[:ALPHA].

    Raises:
        ValueError: there is no such rule, or its number is none that it can take.
    """
    name, _, number = text.partition(":")
    plain: dict[str, Division] = {"iid": Iid(), "source": BySource()}
    if name in plain and not number:
        return plain[name]
    numbered: dict[str, type[Skew | ByQuantity | Dirichlet]] = {
        "skew": Skew,
        "quantity": ByQuantity,
        "dirichlet": Dirichlet,
    }
    if name not in numbered:
        known = ", ".join([*plain, *(f"{name}[:NUMBER]" for name in numbered)])
        raise ValueError(f"no way of dividing cases is called {text!r}; known: {known}")
    return numbered[name](float(number)) if number else numbered[name]()


def apportioned(shares: Sequence[float], total: int) -> list[int]:
    """`total` divided as the shares say, in whole cases: largest remainders first."""
    exact = np.array(shares) / sum(shares) * total
    counts = np.floor(exact).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[index] += 1
    return [int(count) for count in counts]


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _by_shares(classes: Classes, shares: Sequence[Sequence[float]]) -> Places:
    places: Places = {}
    for patients, of_class in zip(classes, shares, strict=True):
        sites = np.repeat(np.arange(len(of_class)), apportioned(of_class, len(patients)))
        places |= {patient.name: int(site) for patient, site in zip(patients, sites, strict=True)}
    return places
