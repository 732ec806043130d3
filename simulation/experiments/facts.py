"""What one has to know to run an experiment again: command, seeds, machine, versions."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

from models.recipe import Recipe
from simulation.experiments.describe import Arm, Experiment, ScaleName
from simulation.experiments.runner import Settings, recipe_of

PACKAGES = ("pleura", "torch", "torchvision", "numpy", "scipy", "tenseal")


def facts_of(
    experiment: Experiment, settings: Settings, scale: ScaleName, data_named: str | None
) -> list[tuple[str, str]]:
    """For the head of a report. `data_named`: as it was given, so that no path of a machine is shared by accident."""
    return [
        ("paper", experiment.paper),
        ("command", command_of(experiment, settings, scale, data_named)),
        ("scale", f"{scale}: {_extent(recipe_of(_typical(experiment)))}"),
        ("seeds", ", ".join(map(str, range(1, settings.seeds + 1)))),
        ("encryption", settings.scheme),
        ("machine", machine()),
        ("versions", ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
        ("written", time.strftime("%Y-%m-%d")),
    ]


def _typical(experiment: Experiment) -> Arm:
    """The first federated arm."""
    return next(arm for arm in experiment.arms if arm.kind == "federated")


def _extent(recipe: Recipe) -> str:
    """How large the images are and how long is trained, in most arms."""
    training, size = recipe.training, " x ".join(map(str, recipe.input.size))
    work = f"{training.local_steps} steps" if training.local_steps else f"{training.local_epochs} local epochs"
    return f"images of {size}, {recipe.federation.rounds} rounds of {work}, batches of {training.batch}"


def command_of(experiment: Experiment, settings: Settings, scale: ScaleName, data_named: str | None) -> str:
    """The command line that runs it again."""
    parts = ["pleura-simulate experiment", experiment.name, *([f"--data {data_named}"] if data_named else [])]
    parts += [f"--division {experiment.division}"] if experiment.division else []
    parts += [f"--scale {scale}", f"--seeds {settings.seeds}", f"--scheme {settings.scheme}"]
    parts += [f"--engine {settings.engine}"] if settings.engine != "local" else []
    parts += [f"--checkpoint {settings.checkpoint.name}"] if settings.checkpoint else []
    return " ".join(parts)


def machine() -> str:
    """Processor, cores, memory and system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {system}"


def _processor() -> str:
    """Its name, where the system tells."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
