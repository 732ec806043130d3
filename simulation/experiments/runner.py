"""An experiment's units, run to their end: each arm at each seed is one, and those that are done stay done."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crypto.plan import SchemeName
from models.recipe import Recipe, load_recipe
from simulation.controls import run_all
from simulation.datasets.layouts import read_table
from simulation.engine.values import EngineName
from simulation.experiments.cohort import Sources, check_root, settle
from simulation.experiments.describe import Arm, Experiment
from simulation.experiments.results import RESULT, UnitResult, read_result
from simulation.experiments.task import MODEL, WEIGHTS, Task, steps
from simulation.federation import Hospital

log = logging.getLogger(__name__)


class Progress(Protocol):
    """Who is told how far the work is: steps done, and steps in all."""

    def unit(self, name: str, done: int, total: int) -> None: ...
    def beside(self, what: str, done: int, total: int) -> None: ...


KEY, LOG = "unit.txt", "units.log"


@dataclass(frozen=True)
class Settings:
    """How an experiment is run.

    Attributes:
        data: folder of the sets, or one set; None where all is drawn.
        out: folder of the run.
        seeds: how many; they are counted from 1.
        checkpoint: pretrained weights in place of those that an arm of the experiment would give.
        workers: units at a time, or with Ray, where it is one unit at a time, workers of a federation; None: as many as
            there are cores.
    """

    data: Path | None
    out: Path
    seeds: int
    scheme: SchemeName = "lwe-ckks"
    engine: EngineName = "local"
    checkpoint: Path | None = None
    workers: int | None = None

    @property
    def units_at_a_time(self) -> int:
        return 1 if self.engine == "ray" else self.workers or os.cpu_count() or 1

    @property
    def sites_at_a_time(self) -> int:
        return self.workers or os.cpu_count() or 1 if self.engine == "ray" else 1

    def unit(self, arm: str, number: int) -> Path:
        """A unit's folder."""
        return self.out / "units" / arm / str(number)

    @property
    def drawn(self) -> Path:
        """Where drawn sets and changed films lie."""
        return self.work / "drawn"

    @property
    def work(self) -> Path:
        """Where images lie: no part of what is shared."""
        return self.out / "work"


def numbers(arm: Arm, seeds: int) -> list[int]:
    """The seeds (or folds) at which an arm is repeated, counted from 1."""
    return list(range(1, 1 + (1 if arm.once else arm.folds or seeds)))


def run_units(experiment: Experiment, settings: Settings, progress: Progress) -> dict[str, str]:
    """Train every unit that is not done, as many at a time as there are cores; those that others need come first.

    A unit that fails leaves the others to go on, those apart that need it. Returns what failed: unit: in words.

    Raises:
        DataError, RecipeError: the experiment cannot be run on these data.
        FileExistsError: a unit of this name was run with other settings.
        BrokenProcessPool: a worker was ended from outside; what was done stays.
    """
    failed: dict[str, str] = {}
    cohorts = Cohorts(experiment, settings, progress)
    for wave in waves(arms_of(experiment, settings)):
        units = [(arm, number) for arm in wave for number in numbers(arm, settings.seeds)]
        tasks = {task.name: task for task in (task_of(experiment, settings, *unit, cohorts) for unit in units)}
        failed |= {name: words for name, task in tasks.items() if (words := _lacking(task))}
        able = {name: task for name, task in tasks.items() if name not in failed}
        for task in able.values():
            _claim(task)
        failed |= _run(able, settings, progress)
    return failed


def _run(tasks: Mapping[str, Task], settings: Settings, progress: Progress) -> dict[str, str]:
    """Train those that are not done, the longest first; returns what failed."""
    missing = {name: task for name, task in tasks.items() if read_result(task.folder) is None}
    longest = dict(sorted(missing.items(), key=lambda item: -item[1].steps))

    def shown(done: Mapping[str, int]) -> None:
        for name, made in done.items():
            progress.unit(name, made, longest[name].steps)

    if not longest:
        return {}
    told = run_all(_train, longest, settings.out / LOG, shown, settings.units_at_a_time)
    return {name: words for name, words in told.items() if words is not None}


def steps_missing(experiment: Experiment, settings: Settings) -> int:
    """Steps of all units that are not done."""
    total = 0
    for arm in arms_of(experiment, settings):
        recipe, members = recipe_of(arm), len(arm.members) or experiment.data[arm.data].sites
        left = [n for n in numbers(arm, settings.seeds) if read_result(settings.unit(arm.name, n)) is None]
        total += len(left) * steps(arm, recipe, members)
    return total


def recipe_of(arm: Arm) -> Recipe:
    """The arm's recipe with its changes."""
    return load_recipe(arm.recipe).overridden(arm.changes)


def arms_of(experiment: Experiment, settings: Settings) -> list[Arm]:
    """Those that are run: none for pretraining where weights are given."""
    pretraining = {arm.checkpoint for arm in experiment.arms} if settings.checkpoint else set()
    return [arm for arm in experiment.arms if arm.name not in pretraining]


def waves(arms: Sequence[Arm]) -> Iterator[list[Arm]]:
    """Arms in the order in which they can be run: each after those that it needs, as far as these are run at all."""
    waiting, done, names = list(arms), set[str](), {arm.name for arm in arms}
    while waiting:
        ready = [arm for arm in waiting if not (set(arm.needs) & names) - done]
        if not ready:
            raise ValueError(f"these arms need each other: {', '.join(arm.name for arm in waiting)}")
        yield ready
        done |= {arm.name for arm in ready}
        waiting = [arm for arm in waiting if arm.name not in done]


class Cohorts:
    """The hospitals of an experiment's data, each cohort made once a seed.

    Raises:
        DataError: one set was given, and the experiment takes several.
    """

    def __init__(self, experiment: Experiment, settings: Settings, progress: Progress) -> None:
        self._experiment, self._settings = experiment, settings
        self._made: dict[Path, list[Hospital]] = {}

        def drawn(done: int, total: int) -> None:
            progress.beside("drawing phantoms", done, total)

        cohorts = [experiment.data[arm.data] for arm in arms_of(experiment, settings)]
        check_root(settings.data, {cohort.source for cohort in cohorts if isinstance(cohort.source, str)})
        self._sources = Sources(settings.data, settings.drawn, drawn)

    def hospitals(self, arm: Arm, seed: int) -> list[Hospital]:
        """Those of the arm's data, on the disk.

        Raises:
            DataError: there is no such data, or it cannot be divided so.
        """
        folder, cohort = sheet_folder(self._settings, arm, seed), self._experiment.data[arm.data]
        if folder not in self._made:
            self._made[folder] = settle(cohort, recipe_of(arm).network.classes, self._sources, folder, seed)
        return self._made[folder]


def task_of(experiment: Experiment, settings: Settings, arm: Arm, number: int, cohorts: Cohorts) -> Task:
    """A unit, its hospitals on the disk."""
    seed = 1 if arm.folds else number
    hospitals = cohorts.hospitals(arm, seed)
    members = arm.members or [hospital.name for hospital in hospitals]
    return Task(
        arm=arm,
        seed=seed,
        recipe=_with_room(recipe_of(arm), arm, [h for h in hospitals if h.name in members]),
        cohort=repr(experiment.data[arm.data]),
        hospitals=hospitals,
        members=members,
        folder=settings.unit(arm.name, number),
        cache=settings.work / "cache",
        scheme=settings.scheme,
        engine=settings.engine,
        workers=settings.sites_at_a_time,
        fold=number - 1 if arm.folds else None,
        start=_folder(experiment, settings, arm.start, seed) / MODEL if arm.start else None,
        checkpoint=(settings.checkpoint or _checkpoint(experiment, settings, arm.checkpoint, seed))
        if arm.checkpoint
        else None,
        original=settings.unit(arm.twin_of, number) if arm.twin_of is not None else None,
    )


def _with_room(recipe: Recipe, arm: Arm, members: Sequence[Hospital]) -> Recipe:
    """The recipe with an `n_max` of at least the largest member's training cases, which a weight would be capped at.

    Recipes are made for the division of their paper; another one may give half of all cases to one hospital.
    """
    if arm.kind != "federated" or recipe.federation.weighting == "equal":
        return recipe
    largest = max(sum(row.split == "train" for row in read_table(member.data)) for member in members)
    return recipe.overridden({"federation.n_max": largest}) if largest > recipe.federation.n_max else recipe


def sheet_folder(settings: Settings, arm: Arm, seed: int) -> Path:
    """Where the hospitals of an arm's data lie."""
    return settings.work / "hospitals" / arm.data / str(seed)


def results_of(experiment: Experiment, settings: Settings) -> dict[str, list[UnitResult]]:
    """Those units that are done, by arm."""
    found = {
        arm.name: [read_result(settings.unit(arm.name, number)) for number in numbers(arm, settings.seeds)]
        for arm in experiment.arms
    }
    return {arm: [unit for unit in units if unit is not None] for arm, units in found.items()}


def _folder(experiment: Experiment, settings: Settings, arm: str, seed: int) -> Path:
    """Of another arm's unit at the seed, or at the first where it has but one."""
    return settings.unit(arm, 1 if experiment.arm(arm).once else seed)


def _checkpoint(experiment: Experiment, settings: Settings, arm: str, seed: int) -> Path:
    """What others take as pretrained of an arm: the model, or what is left of it without the arm's own head."""
    return _folder(experiment, settings, arm, seed) / (WEIGHTS if experiment.arm(arm).without else MODEL)


def _claim(task: Task) -> None:
    """See that the folder is this unit's, or make it so."""
    file = task.folder / KEY
    if not file.exists():
        task.folder.mkdir(parents=True, exist_ok=True)
        file.write_text(task.key)
    elif file.read_text() != task.key:
        raise FileExistsError(
            f"{task.folder} holds a unit of other settings: name another folder with --out, or remove it"
        )


def _lacking(task: Task) -> str | None:
    """What a unit needs and there is not, as what should have given it failed."""
    result = task.original / RESULT if task.original is not None else None
    absent = [file for file in (task.start, task.checkpoint, result) if file is not None and not file.exists()]
    return f"it needs {absent[0]}, which is not there" if absent else None


def _train(task: Task, advance: Callable[[], None]) -> str | None:
    """Train a unit; returns why that failed, in words."""
    # In the worker only: torch takes seconds to import, and this process has no use for it.
    from simulation.experiments.training import train_unit

    try:
        train_unit(task, advance)
    except Exception as error:
        log.exception("%s failed", task.name)
        return f"{type(error).__name__}: {error}"
    return None
