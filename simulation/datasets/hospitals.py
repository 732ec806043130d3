"""A set divided among hospitals, as folders that their agents read like any hospital's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from participant.data.cases import Split
from participant.data.splits import SHARES
from simulation.datasets.dataset import Dataset, Terms
from simulation.datasets.division import CannotDivide, Division, shuffled
from simulation.datasets.files import write_table
from simulation.datasets.layouts import read_table
from simulation.datasets.shift import Shift, shifted
from simulation.datasets.splits import with_splits
from simulation.federation import Hospital


def hospitals(
    dataset: Dataset,
    classes: Sequence[str],
    folder: Path,
    sites: int,
    division: Division,
    seed: int,
    *,
    shares: Mapping[Split, float] = SHARES,
    shifts: Mapping[str, Shift] | None = None,
) -> list[Hospital]:
    """The set's cases of `classes` at `sites` hospitals, site-1 and so on, each a folder with a labels.csv.

    No patient is at two hospitals or in two splits. The files stay where they are; a hospital named in `shifts` has
    changed copies of its own (UCADI's experiment II: a fourth hospital with another scanner). The same arguments give
    the same hospitals, so a run that goes on where it stopped may call this again.

    Raises:
        CannotDivide: the set has too few patients or sources.
        DataProblems: a patient is in two splits.
    """
    parts = divide(dataset.of_classes(classes), sites, division, seed, shares)
    unknown = set(shifts or {}) - {part.name for part in parts}
    if unknown:
        raise ValueError(f"no hospital is called {', '.join(sorted(unknown))}; they are site-1 to site-{sites}")
    written = []
    for part in parts:
        home = folder / part.name
        shift = (shifts or {}).get(part.name)
        write_table(home, (shifted(part, shift, home / "shifted", seed) if shift else part).rows)
        written.append(Hospital(part.name, home))
    return written


def divide(
    dataset: Dataset, sites: int, division: Division, seed: int, shares: Mapping[Split, float] = SHARES
) -> tuple[Dataset, ...]:
    """Each hospital's part of the set, with splits; `seed` decides who goes where. Raises as `hospitals` does."""
    rng = np.random.default_rng(seed)
    places = division.places(shuffled(dataset, rng), sites, rng)
    parts = []
    for site in range(sites):
        own = dataset.with_rows(row for row in dataset.rows if places[row.patient] == site)
        named = replace(own, name=f"site-{site + 1}", excluded=())
        if not named.rows:
            raise CannotDivide(
                f"{named.name} would have nobody of {len(dataset.patients)} patients: take fewer hospitals"
            )
        parts.append(with_splits(named, f"{seed}/{named.name}", shares))
    return tuple(parts)


def parts_of(hospitals: Sequence[Hospital], classes: Sequence[str], terms: Terms) -> tuple[Dataset, ...]:
    """What lies at the hospitals, read back from their tables: for tables of the distribution."""
    return tuple(Dataset(each.name, tuple(classes), tuple(read_table(each.data)), terms) for each in hospitals)
