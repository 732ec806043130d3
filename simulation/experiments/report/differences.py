"""Which differences between arms are more than chance: over the seeds, and on the same held-out cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.statistics import Difference
from simulation.experiments.describe import Experiment, Group, Measure
from simulation.experiments.measures import accuracy, auc
from simulation.experiments.report.document import Cell, Estimate, Section, Table
from simulation.experiments.report.estimates import Units, at_sites
from simulation.experiments.results import Predictions, UnitResult
from simulation.significance import Comparison, adjusted, compare, compare_seeds

BySeed: TypeAlias = dict[str, dict[int, UnitResult]]

FIGURES: dict[str, Measure] = {"macro AUC": auc(), "accuracy": accuracy()}
RESAMPLES = 1000
HEAD = ("figure", "arm", "against", "difference", "p", "p, Holm", "test")


def section(experiment: Experiment, units: Units) -> Section:
    words = (
        "Differences on the held-out cases, the first arm less the other, with 95 % intervals. Over the seeds a paired "
        "t-test tells what another split and another start might change; as seeds divide the same cases anew, they "
        "share most of them, and these intervals are too narrow. On the cases of the first seed a paired test tells "
        "what other patients might change. Where each hospital trains alone, the mean of their models' figures is "
        "compared. Few seeds or few patients tell little apart: no difference found is not equality shown."
    )
    return Section(
        "Significance",
        [words, *(table for group in experiment.groups for table in _of_group(group, at_sites(units, group)))],
    )


def _of_group(group: Group, units: Units) -> Iterator[Table]:
    done = {arm: {unit.seed: unit for unit in units[arm]} for arm in group.arms if units.get(arm)}
    if len(done) < 2 or group.arms[0] not in done:
        return
    seeds = sorted(set.intersection(*(set(of_seed) for of_seed in done.values())))
    if len(seeds) > 1:
        found = adjusted([each for figure in FIGURES for each in _over_seeds(group, done, seeds, figure)])
        if found:
            yield _table(f"seeds-{group.key}", f"{group.heading}: over {len(seeds)} seeds", found)
    if seeds and (tested := _on_cases(group, done, seeds[0])):
        yield _table(f"cases-{group.key}", f"{group.heading}: on the held-out cases of seed {seeds[0]}", tested)


def _over_seeds(group: Group, done: BySeed, seeds: Sequence[int], figure: str) -> Sequence[Comparison]:
    values = {arm: [FIGURES[figure](of_seed[seed]) for seed in seeds] for arm, of_seed in done.items()}
    known = {arm: [v for v in found if v is not None] for arm, found in values.items()}
    complete = {arm: found for arm, found in known.items() if len(found) == len(seeds)}
    return compare_seeds(figure, complete, first=group.arms[0]) if group.arms[0] in complete else ()


def _on_cases(group: Group, done: BySeed, seed: int) -> Sequence[Comparison]:
    """Of those arms that were tried on the very cases of the first one."""
    first = _test(done[group.arms[0]][seed])
    models: dict[str, NDArray[np.float32]] = {}
    for arm, of_seed in done.items():
        tests = [_ordered(model.test) for model in of_seed[seed].models.values()]
        if all(
            np.array_equal(test.patients, first.patients) and np.array_equal(test.labels, first.labels)
            for test in tests
        ):
            models[arm] = tests[0].probabilities if len(tests) == 1 else np.stack([t.probabilities for t in tests])
    return compare(models, first.labels, first.patients, first=group.arms[0], resamples=RESAMPLES)


def _test(unit: UnitResult) -> Predictions:
    return _ordered(next(iter(unit.models.values())).test)


def _ordered(found: Predictions) -> Predictions:
    """By patient: the same cases come in another order where they are divided among hospitals in another way."""
    order = np.argsort(found.patients, kind="stable")
    return Predictions(*(values[order] for values in vars(found).values()))


def _table(key: str, title: str, found: Sequence[Comparison]) -> Table:
    rows = [[each.figure, each.first, each.second, _signed(each.difference), *_ps(each), each.test] for each in found]
    return Table(key, title, HEAD, rows)


def _signed(difference: Difference) -> Cell:
    return Estimate(difference.value, difference.low, difference.high, unit="difference")


def _ps(each: Comparison) -> list[Cell]:
    return [Estimate(value, unit="probability") for value in (each.difference.p, each.adjusted_p)]
