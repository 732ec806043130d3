"""A federated arm: the real agents, protocol and coordinator, in one process or on a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.flatten import SavedModel, read_model
from participant.case_data import CaseData
from participant.documents import Study
from participant.steps.desk import Trainer, TrainerFactory
from simulation.engine import Spec, run
from simulation.engine.sites import home_of
from simulation.experiments.results import Point
from simulation.experiments.task import FIRST, Task, Trained, point
from simulation.federation import Hospital
from simulation.report import Timing, read_timings

PHASES = ("train", "seal", "add", "open", "reveal", "wall")


def federated(task: Task, first: SavedModel, cases: Mapping[str, CaseData], advance: Callable[[], None]) -> Trained:
    """The members train together; a federation that was broken off goes on."""
    folder, told = task.folder / "federation", 0
    members = [hospital for hospital in task.hospitals if hospital.name in task.members]

    def shown(completed: int) -> None:
        nonlocal told
        for _ in range(told, completed):
            advance()
        told = completed

    found = run(_spec(task, first, members, folder), folder, lambda done: shown(done.completed))
    timings = [line for each in members for line in read_timings(home_of(folder, each.name).timings)]
    seconds = {phase: found.seconds[phase] for phase in PHASES} | {"as sites": as_sites(found.history, timings)}
    return Trained({task.arm.name: read_model(found.model)}, curve_of(found.history), seconds, found.uploads)


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
        trainers=Checkpoints(folder, task.checkpoint) if task.checkpoint is not None else None,
    )


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


def curve_of(history: Sequence[Mapping[str, Any]]) -> list[Point]:
    """A point for each completed round: its counts are of the model that it started from."""
    points, before = [], 0
    for row in sorted((row for row in history if row["state"] == "complete"), key=lambda row: int(row["round"])):
        if row["metrics"]:
            points.append(point(before, row["metrics"]))
        before += row["kind"] == "training"
    return points


def as_sites(history: Sequence[Mapping[str, Any]], timings: Sequence[Timing]) -> float:
    """Seconds with every site on a machine of its own: in each round the slowest one, and the coordinator's part."""
    total = 0.0
    for row in (row for row in history if row["state"] == "complete"):
        here = [line for line in timings if (line.round, line.attempt) == (row["round"], row["attempt"])]
        total += max(((line.train_seconds or 0.0) + (line.seal_seconds or 0.0) for line in here), default=0.0)
        total += max((line.open_seconds or 0.0 for line in here), default=0.0)
        total += sum(row["seconds"][part] or 0.0 for part in ("add", "open"))
    return total
