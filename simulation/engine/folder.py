"""A run's folder: whose it is, what lies where in it, and how long it took.

run.json                        which run this is, seconds so far
models/round-N.safetensors      after each training round
local/SITE.safetensors          the model that a site trained last, where they are kept
sites/SITE/                     an agent's home
coordinator/                    database and blobs
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from models.flatten import read_model
from simulation.engine.values import RoundDone, Spec

Progress = Callable[[RoundDone], None]

_RUN: Final = "run.json"


def claim(spec: Spec, folder: Path) -> None:
    """Make the folder this run's, or see that it is.

    Raises:
        FileExistsError: it is another's.
        ValueError: the model is not of the recipe.
    """
    if read_model(spec.model).recipe != spec.recipe:
        raise ValueError(f"{spec.model} was made for another recipe than {spec.recipe.name} as it is given")
    folder.mkdir(parents=True, exist_ok=True)
    file, name = folder / _RUN, _name(spec)
    if file.is_file():
        if json.loads(file.read_text())["run"] != name:
            raise FileExistsError(f"{folder} holds a run of other settings: name another folder, or remove it")
    elif any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty and holds no run: name another folder, or remove it")
    else:
        _write(file, {"run": name, "seconds": 0.0})


def note_seconds(folder: Path, seconds: float) -> float:
    """Add to the seconds that the run took so far; returns them."""
    value = json.loads((folder / _RUN).read_text())
    total = float(value["seconds"]) + seconds
    if seconds:
        _write(folder / _RUN, value | {"seconds": total})
    return total


def model_file(folder: Path, number: int) -> Path:
    """Where the model of a training round lies."""
    return folder / "models" / f"round-{number:03d}.safetensors"


def local_model(folder: Path, name: str) -> Path:
    """Where the model lies that a site trained last."""
    return folder / "local" / f"{name}.safetensors"


def local_models(spec: Spec, folder: Path) -> dict[str, Path]:
    """Those that there are, by site."""
    files = {hospital.name: local_model(folder, hospital.name) for hospital in spec.hospitals}
    return {name: file for name, file in files.items() if file.is_file()}


def link_or_copy(source: Path, target: Path) -> None:
    """`target` holds what `source` does, whole or not at all; once on the disk where a hard link can be made."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    try:
        unfinished.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, unfinished)
    unfinished.replace(target)


def _name(spec: Spec) -> str:
    """A digest of what makes a run what it is; where it is computed is no part of that."""
    value = [
        hashlib.sha256(spec.model.read_bytes()).hexdigest(),
        sorted((hospital.name, str(hospital.data)) for hospital in spec.hospitals),
        [spec.scheme, spec.release, spec.seed, spec.rounds, spec.plaintext, spec.keep_local, spec.noise_seed],
        sorted(spec.departures.items()),
        sorted(spec.arrivals.items()),
        *([sorted((number, list(names)) for number, names in spec.asked.items())] if spec.asked else []),
    ]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _write(file: Path, value: dict[str, Any]) -> None:
    unfinished = file.with_suffix(".new")
    unfinished.write_text(json.dumps(value))
    unfinished.replace(file)
