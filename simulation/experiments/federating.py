"""A federated arm: the real agents, protocol and coordinator, in one process or on a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.flatten import SavedModel, read_model
from participant.case_data import CaseData
from participant.documents import Study
from participant.steps.desk import Trainer, TrainerFactory
from simulation.engine import Federated, Spec, run
from simulation.engine.sites import home_of
from simulation.experiments.judging import Judge
from simulation.experiments.results import read_result
from simulation.experiments.task import FIRST, Task, Trained
from simulation.federation import Hospital
from simulation.report import Timing, read_timings

PHASES = ("train", "seal", "add", "open", "reveal", "wall")
PLAIN_PHASES = ("train", "wall")


def federated(task: Task, first: SavedModel, cases: Mapping[str, CaseData], advance: Callable[[], None]) -> Trained:
    """The members train together; a federation that was broken off goes on."""
    folder, told = task.folder / "federation", 0
    members = [hospital for hospital in task.hospitals if hospital.name in task.members]

    def shown(completed: int) -> None:
        nonlocal told
        for _ in range(told, completed):
            advance()
        told = completed

    judge = Judge(task, first, cases)
    found = run(_spec(task, first, members, folder), folder, lambda done: shown(done.completed))
    return Trained(
        {task.arm.name: read_model(found.model)},
        # Of all members' cases: a coordinator's figures are of those sites alone that it asked in the round.
        [judge.point(number, model) for number, model in enumerate(_models(first, found))],
        _seconds(task, found, members, folder),
        found.uploads,
        contributors_of(found.history),
    )


def _models(first: SavedModel, found: Federated) -> Iterator[SavedModel]:
    """The first model, and those of the rounds that were completed."""
    yield first
    for number in sorted(found.models):
        yield read_model(found.models[number])


def _seconds(task: Task, found: Federated, members: Sequence[Hospital], folder: Path) -> dict[str, float]:
    if task.arm.twin_of is not None:  # nothing is sealed or sent there
        return {phase: found.seconds[phase] for phase in PLAIN_PHASES}
    timings = [line for each in members for line in read_timings(home_of(folder, each.name).timings)]
    return {phase: found.seconds[phase] for phase in PHASES} | {"as sites": as_sites(found.history, timings)}


def _spec(task: Task, first: SavedModel, members: Sequence[Hospital], folder: Path) -> Spec:
    return Spec(
        recipe=first.recipe,
        model=task.folder / FIRST,
        hospitals=members,
        scheme=task.scheme,
        release="open",
        seed=task.seed,
        rounds=first.recipe.federation.rounds,
        departures=task.arm.departures,
        arrivals=task.arm.arrivals,
        engine=task.engine,
        cache=task.cache,
        threads=1,
        workers=task.workers,
        plaintext=task.arm.twin_of is not None,
        asked=_asked(task),
        trainers=Checkpoints(folder, task.checkpoint) if task.checkpoint is not None else None,
    )


def _asked(task: Task) -> dict[int, Sequence[str]]:
    """Who took part in each round of the unit that a twin repeats: where few sites are drawn, other draws train
    otherwise. Nothing where its result is from before that was written down."""
    original = read_result(task.original) if task.original is not None else None
    return dict(enumerate(original.contributors, 1)) if original is not None else {}


@dataclass(frozen=True)
class Checkpoints:
    """Puts the file that the recipe names where each site's operator would put it: in the site's home.

    folder: of the federation.
    """

    folder: Path
    file: Path

    def __call__(self, site: str, images: TrainerFactory) -> TrainerFactory:
        def make(study: Study) -> Trainer:
            place = home_of(self.folder, site).checkpoints / self.file.name
            if not place.exists():
                place.parent.mkdir(exist_ok=True)
                shutil.copyfile(self.file, place)
            return images(study)

        return make


def contributors_of(history: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """As in `UnitResult`: one list for each completed attempt."""
    complete = sorted((row for row in history if row["state"] == "complete"), key=lambda row: int(row["round"]))
    return [[name for name in row["contributors"] if name not in row["carried"]] for row in complete]


def as_sites(history: Sequence[Mapping[str, Any]], timings: Sequence[Timing]) -> float:
    """Seconds with every site on a machine of its own: in each round the slowest one, and the coordinator's part."""
    total = 0.0
    for row in (row for row in history if row["state"] == "complete"):
        here = [line for line in timings if (line.round, line.attempt) == (row["round"], row["attempt"])]
        total += max(((line.train_seconds or 0.0) + (line.seal_seconds or 0.0) for line in here), default=0.0)
        total += max((line.open_seconds or 0.0 for line in here), default=0.0)
        total += sum(row["seconds"][part] or 0.0 for part in ("add", "open"))
    return total
