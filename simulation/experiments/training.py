"""One unit of an experiment: an arm trained at one seed, examined, its result written."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from models.first_model import first_model
from models.flatten import SavedModel, read_model, save_model
from models.recipe_problems import Problem, RecipeError
from participant.case_data import CaseData
from simulation.experiments.apart import alone, centralised
from simulation.experiments.examine import examine
from simulation.experiments.federating import federated
from simulation.experiments.results import Examined, UnitResult, read_result, write_result
from simulation.experiments.task import FIRST, MODEL, WEIGHTS, Task, Trained

log = logging.getLogger(__name__)

HOW = {"federated": federated, "centralised": centralised, "alone": alone}
LEFTOVERS = ("federation", "state", "examined")


def train_unit(task: Task, advance: Callable[[], None]) -> None:
    """Train, examine and write down, unless that was done. Of a unit that was broken off a federation goes on; any
    other training begins anew.

    `advance` is called as often as `task.steps` says, also where early stopping or an earlier run spares rounds.
    """
    told = 0

    def step() -> None:
        nonlocal told
        told += 1
        advance()

    if read_result(task.folder) is None:
        _train(task, step)
    while told < task.steps:
        step()


def _train(task: Task, step: Callable[[], None]) -> None:
    _check(task)
    first = first_of(task)
    cases = {
        h.name: CaseData.read(first.recipe, h.data, task.cache / h.name, task.seed, task.fold) for h in task.hospitals
    }
    trained = HOW[task.arm.kind](task, first, cases, step)
    started = time.perf_counter()
    examined = {
        name: examine(model, cases, task.members, ("test", *task.arm.also), task.folder / "examined", task.checkpoints)
        for name, model in trained.models.items()
    }
    log.info("%s: examined in %.1f s", task.name, time.perf_counter() - started)
    for name, model in trained.models.items():
        file = task.folder / (MODEL if len(examined) == 1 else f"{name}.safetensors")
        save_model(file, model.vector, model.layout, model.recipe)
    if task.arm.without:
        (model,) = trained.models.values()
        save_file(_tensors(model, task.arm.without), task.folder / WEIGHTS)
    write_result(_result(task, first, cases, trained, examined), task.folder)
    for leftover in LEFTOVERS:
        shutil.rmtree(task.folder / leftover, ignore_errors=True)
    (task.folder / FIRST).unlink(missing_ok=True)


def _check(task: Task) -> None:
    """Refuse what would be examined wrongly.

    Raises:
        RecipeError: some of the network is each site's own.
    """
    if task.recipe.network.local:
        what = "an experiment tries the shared model, and what is local is trained at sites and never part of it"
        raise RecipeError(task.recipe.file, [Problem("network.local", what, "remove it")])


def _tensors(model: SavedModel, without: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """A model's shared tensors by name, those left out that a pattern matches."""
    return {
        tensor.name: model.vector[place].reshape(tensor.shape)
        for tensor, place in model.layout.slices()
        if not any(fnmatchcase(tensor.name, pattern) for pattern in without)
    }


def first_of(task: Task) -> SavedModel:
    """The first model, written once: a federation that goes on knows it by its bytes."""
    path = task.folder / FIRST
    if not path.exists():
        made = first_model(task.recipe, task.seed, pretrained=task.checkpoint, earlier=task.start)
        vector = np.nextafter(made.vector, np.float32(np.inf)) if task.arm.nudged else made.vector
        task.folder.mkdir(parents=True, exist_ok=True)
        save_model(path, vector, made.layout, made.recipe)
    return read_model(path)


def _result(
    task: Task,
    first: SavedModel,
    cases: Mapping[str, CaseData],
    trained: Trained,
    examined: Mapping[str, Examined],
) -> UnitResult:
    return UnitResult(
        arm=task.arm.name,
        seed=task.seed,
        classes=first.recipe.network.classes,
        models=examined,
        curve=tuple(trained.curve),
        cases={name: of_site.counted() for name, of_site in cases.items()},
        seconds=trained.seconds,
        upload_bytes=trained.uploads,
        parameters=sum(tensor.size for tensor in first.layout.tensors if tensor.kind == "parameter"),
        fp32_bytes=4 * first.layout.size,
        recipe=first.recipe.to_json(),
        contributors=tuple(map(tuple, trained.contributors)),
    )
