"""A round on several devices of one machine: the agent leads, and a process for each device trains (DDP).

The agent writes what is to be done into a folder, starts `python -m participant.training.worker FOLDER`, which by
Fabric starts the others, reads its steps, and takes the trained model from the folder. All of them end when the agent
does, however it ends, as their standard input then does.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from pydantic import TypeAdapter

from crypto.layout import Layout
from models.flatten import Vector
from participant.terms import RoundTerms
from participant.training.local_round import Progress
from participant.training.parts import TooLittleMemory
from participant.training.site import Place
from participant.training.steps import TrainingDiverged
from participant.training.trainer import Trainer, TrainResult

log = logging.getLogger(__name__)

JOB: Final = "job.json"
BASE: Final = "base.npy"
VECTOR: Final = "vector.npy"
STATE: Final = "state.safetensors"
RESULT: Final = "result.json"
FAILURE: Final = "failure.json"
_STEP: Final = "step "  # begins the lines with which a worker tells where it is
_GRACE: Final = 10.0  # seconds for processes to end by themselves


@dataclass(frozen=True)
class Job:
    """One round, as a file tells it to those that train it; the base model lies beside."""

    place: Place
    terms: RoundTerms
    layout: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Job:
        return TypeAdapter(cls).validate_json((folder / JOB).read_bytes())


class WorkerFailed(Exception):
    """The processes that train ended without a model; their own words are in the log."""


class SeveralDevices(Trainer):
    """Trains on all devices that the machine's settings give, evaluates on the first one."""

    def __init__(self, place: Place) -> None:
        self.place, alone = place, place.on_one_device()
        super().__init__(
            alone.recipe,
            alone.cases(),
            alone.state_dir,
            alone.seed,
            checkpoints=alone.checkpoints,
            machine=alone.machine,
            study=alone.study,
        )

    def train(self, base: Vector, layout: Layout, terms: RoundTerms, progress: Progress) -> TrainResult:
        """As on one device, to which it falls back where a batch is too small to be shared.

        Raises:
            TrainingDiverged, TooLittleMemory: as on one device.
            WorkerFailed: the processes ended for another reason.
        """
        devices = self._useful_devices()
        if devices == 1:
            return super().train(base, layout, terms, progress)
        while True:
            machine = replace(self.place.machine, devices=devices, micro_batch=self.parts.most)
            try:
                return self._led(replace(self.place, machine=machine), base, layout, terms, progress)
            except TooLittleMemory:
                self.parts.halve(-(-self.recipe.training.batch // devices))

    def _useful_devices(self) -> int:
        """Each has two cases of the smallest batch at least: batch norm learns nothing from one."""
        training, wanted = self.recipe.training, self.place.machine.devices
        if training.dp_sgd is not None:
            log.warning("%s: training.dp_sgd trains on one device, not on %d", self.recipe.name, wanted)
            return 1
        left = self.samples % training.batch
        smallest = left if left > 1 else min(training.batch, self.samples)
        return max(1, min(wanted, smallest // 2))

    def _led(self, place: Place, base: Vector, layout: Layout, terms: RoundTerms, progress: Progress) -> TrainResult:
        folder = place.state_dir / "several"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        try:
            np.save(folder / BASE, base, allow_pickle=False)
            (folder / JOB).write_bytes(TypeAdapter(Job).dump_json(Job(place, terms, layout.to_json())))
            with _worker(folder) as worker:
                for line in worker.stdout or ():
                    if line.startswith(_STEP):
                        done, total = map(int, line.removeprefix(_STEP).split())
                        progress(done, total)
                status = worker.wait()
            if not (folder / RESULT).exists():
                _explain(folder, status)
            told = json.loads((folder / RESULT).read_text())
            vector: Vector = np.load(folder / VECTOR, allow_pickle=False)
            return TrainResult(vector, self.samples, told["loss"], told["seconds"], (folder / STATE).read_bytes())
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def tell(done: int, total: int) -> None:
    """A worker's progress, for the agent that reads its output."""
    print(f"{_STEP}{done} {total}", flush=True)


@contextmanager
def _worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The leading process of those that train; they have ended when this does."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "MASTER_PORT")}
    command = [sys.executable, "-m", "participant.training.worker", str(folder)]
    worker = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=inherited,
        start_new_session=True,  # so that one of them can end all
    )
    try:
        yield worker
    finally:
        if worker.stdin is not None:
            worker.stdin.close()  # at which all of them end
        try:
            worker.wait(_GRACE)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        if worker.stdout is not None:
            worker.stdout.close()


def _explain(folder: Path, status: int) -> NoReturn:
    """Raise what the workers met."""
    failures = [json.loads(file.read_text()) for file in sorted(folder.glob(f"*-{FAILURE}"))]
    for failure in failures:
        for known in (TooLittleMemory, TrainingDiverged):
            if failure["kind"] == known.__name__:
                raise known(failure["words"])
    kinds = ", ".join(failure["kind"] for failure in failures) or f"exit status {status}"
    raise WorkerFailed(f"training on several devices ended without a model ({kinds}); see the log above this")
