"""The controls of a federated arm: all cases in one place, or each hospital by itself."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

from models.flatten import SavedModel
from participant.case_data import CaseData
from participant.training import Machine, Trainer
from simulation.control_worker import train_rounds
from simulation.experiments.judging import Judge
from simulation.experiments.results import Point
from simulation.experiments.task import Task, Trained

log = logging.getLogger(__name__)

Advance = Callable[[], None]


def centralised(task: Task, first: SavedModel, cases: Mapping[str, CaseData], advance: Advance) -> Trained:
    """All members' cases in one place."""
    model, curve, seconds = _trained(task, first, cases, task.members, advance)
    return Trained({task.arm.name: model}, curve, {"train": seconds, "as sites": seconds}, {})


def alone(task: Task, first: SavedModel, cases: Mapping[str, CaseData], advance: Advance) -> Trained:
    """Each member by itself: a model each, and the mean of their curves."""
    each = {name: _trained(task, first, cases, [name], advance) for name in task.members}
    curve = [mean_point(points) for points in zip(*(curve for _, curve, _ in each.values()), strict=False)]
    seconds = [seconds for _, _, seconds in each.values()]
    models = {name: model for name, (model, _, _) in each.items()}
    return Trained(models, curve, {"train": sum(seconds), "as sites": max(seconds)}, {})


def mean_point(points: Sequence[Point]) -> Point:
    """Of points of one round; a figure that one of them lacks is left out."""

    def mean(name: str) -> float | None:
        values = [getattr(each, name) for each in points]
        return fmean(values) if None not in values else None

    names = ("loss", "accuracy", "auc", "training_loss")
    return Point(round=points[0].round, **{name: mean(name) for name in names})


def _trained(
    task: Task, first: SavedModel, cases: Mapping[str, CaseData], members: Iterable[str], advance: Advance
) -> tuple[SavedModel, list[Point], float]:
    """The model, its curve on all members' validation cases, and the seconds that training took."""
    state = task.folder / "state"
    shutil.rmtree(state, ignore_errors=True)  # of a training that was broken off
    own = CaseData.joined([cases[name] for name in members])
    machine, files = Machine(threads=1), task.checkpoints
    trainer = Trainer(first.recipe, own, state, task.seed, checkpoints=files, machine=machine, continuous=True)
    judge, model, seconds = Judge(task, first, cases), first, 0.0
    curve = [judge.point(0, first)]
    for number, result in enumerate(train_rounds(trainer, first, first.recipe.federation.rounds), 1):
        model, seconds = SavedModel(result.vector, first.layout, first.recipe), seconds + result.seconds
        curve.append(judge.point(number, model, result.loss))
        log.info("%s: round %d, loss %.3f, %.1f s", task.arm.name, number, result.loss, result.seconds)
        advance()
    return model, curve, seconds
