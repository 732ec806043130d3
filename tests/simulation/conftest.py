"""Makes the modules beside it importable, and a tiny experiment that was run whole."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:  # each module of this folder loads this one, and some need none of the trainings' libraries
    from simulation.experiments.runner import Settings

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The experiment as it was run, once for all of pytest-xdist's workers; only to be read."""
    from simulation.experiments.runner import Settings

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    place = shared / "tiny-experiment.txt"
    with FileLock(shared / "tiny-experiment.lock"):
        if not place.exists():
            place.write_text(str(_run(tmp_path_factory.mktemp("experiment"))))
    return Settings(None, Path(place.read_text()), seeds=1)


def _run(out: Path) -> Path:
    from rich.console import Console
    from tiny_experiment import tiny

    from simulation.experiments.main import run_experiment
    from simulation.experiments.runner import Settings, steps_missing

    settings = Settings(None, out, seeds=1)
    assert steps_missing(tiny(), settings) == 3 + 3 + 3 + 3 + 5 + 3 + 3
    run_experiment(tiny(), settings, "small", Console(quiet=True))
    return out


@pytest.fixture(scope="module")
def finished(trained: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A copy of it for one module, whose tests write there."""
    out = tmp_path_factory.mktemp("finished") / "experiment"
    yield replace(trained, out=Path(shutil.copytree(trained.out, out)))
    shutil.rmtree(out)
