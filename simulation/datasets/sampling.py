"""Taking part of a set: so many cases of each class, at random by a seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from participant.data.cases import Split
from simulation.datasets.dataset import Dataset, Row

#: The most cases of each class, in each split that is named; what is not named is taken whole.
Caps: TypeAlias = Mapping[Split, Mapping[str, int]]

#: COVIDxMINI (vgg16-transfer, table 2), out of COVIDxPLUS, which is the whole set. The test set is the same in both.
COVIDX_MINI: Caps = {
    "train": {"normal": 200, "pneumonia": 200, "covid-19": 152},
    "validation": {"normal": 100, "pneumonia": 100, "covid-19": 71},
}


def sampled(dataset: Dataset, caps: Caps, seed: int) -> Dataset:
    """At most so many cases of each class and split as `caps` say; the set must have its splits (`with_splits`)."""
    groups: dict[tuple[Split | None, str], list[Row]] = defaultdict(list)
    for row in dataset.rows:
        groups[row.split, row.label].append(row)
    limits: dict[tuple[Split | None, str], int] = {
        (split, label): n for split, by_class in caps.items() for label, n in by_class.items()
    }
    return _taken(dataset, [(rows, limits.get(key, len(rows))) for key, rows in groups.items()], seed)


def capped(dataset: Dataset, caps: int | Mapping[str, int], seed: int) -> Dataset:
    """At most so many cases of every class, or of each class as named."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in dataset.rows:
        groups[row.label].append(row)
    limits = dict.fromkeys(groups, caps) if isinstance(caps, int) else caps
    return _taken(dataset, [(rows, limits.get(label, len(rows))) for label, rows in groups.items()], seed)


def balanced(dataset: Dataset, seed: int) -> Dataset:
    """As many cases of every class as the smallest has."""
    return capped(dataset, min(dataset.count_by_class().values()), seed)


def _taken(dataset: Dataset, groups: list[tuple[list[Row], int]], seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    kept: set[Path] = set()
    for rows, limit in groups:
        kept |= {rows[index].path for index in rng.permutation(len(rows))[:limit]}
    return dataset.without("is beyond the cases that are taken of its class", lambda row: row.path not in kept)
