"""A round that is broken off goes on where its last checkpoint is, and ends with the very same model."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_volumes import LASTING, first_model, recipe, silent

from participant.case_data import CaseData
from participant.terms import RoundTerms
from participant.training import Machine, Trainer, TrainingDiverged, TrainResult
from participant.training.unfinished import Checkpoint, UnfinishedRound
from participant.training_files import drop_unfinished, unfinished_file, unfinished_rounds

HERE = Path(__file__).parent
SCAFFOLD = {"training__momentum": 0.0, "federation__scaffold": True}
ADAM = {"training__momentum": 0.0, "training__optimizer": "adam"}
FIRST = RoundTerms(1)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class BrokenOff(Exception):
    """Stands for whatever ends a process between two steps."""


class Site:
    """A site's trainers, made anew as by an agent that starts again. Five steps make an epoch, ten a round."""

    def __init__(self, site: Path, home: Path, **changes: Any) -> None:
        self.recipe, self.home = recipe(**LASTING | changes), home
        self.base, self.layout = first_model(self.recipe)
        self._cases = CaseData.read(self.recipe, site, site / ".." / "cache", 0)

    def trainer(self, *, kept: bool = True) -> Trainer:
        machine = Machine(device="cpu", threads=1, checkpoint_seconds=0)
        study = "a study" if kept else None
        return Trainer(self.recipe, self._cases, self.home, 0, machine=machine, study=study)

    def broken_off(self, after: int, terms: RoundTerms = FIRST) -> None:
        def stop(done: int, total: int) -> None:
            if done == after:
                raise BrokenOff

        drop_unfinished(self.home, terms.round, terms.attempt)
        with pytest.raises(BrokenOff):
            self.trainer().train(self.base, self.layout, terms, stop)

    def uninterrupted(self, terms: RoundTerms = FIRST) -> TrainResult:
        return self.trainer(kept=False).train(self.base, self.layout, terms, silent)

    def gone_on(self, terms: RoundTerms = FIRST) -> tuple[TrainResult, list[int]]:
        """The result, and which steps were made for it."""
        made: list[int] = []
        return self.trainer().train(self.base, self.layout, terms, lambda done, total: made.append(done)), made


def same(found: TrainResult, expected: TrainResult) -> bool:
    rest = (found.state, found.loss) == (expected.state, expected.loss)
    return rest and np.array_equal(found.vector, expected.vector)


@pytest.mark.parametrize("changes", [{}, ADAM, SCAFFOLD], ids=["momentum", "adam", "scaffold"])
@pytest.mark.parametrize("after", [2, 5, 6, 8])  # in the middle of an epoch, at its end, at the next one's beginning
def test_a_round_goes_on_bit_by_bit(site: Path, tmp_path: Path, changes: dict[str, Any], after: int) -> None:
    here = Site(site, tmp_path, **changes)
    here.broken_off(after)
    found, steps = here.gone_on()
    assert steps == list(range(after, 11))  # the step that was being made when it ended is made again
    assert same(found, here.uninterrupted())


def test_a_killed_process_goes_on_in_another_one(site: Path, tmp_path: Path) -> None:
    home, marker, out = tmp_path / "home", tmp_path / "marker", tmp_path / "out.npz"
    command = [sys.executable, HERE / "train_until.py", site, home, out]
    killed = subprocess.Popen([*command, marker])
    try:
        until = time.monotonic() + 240
        while not marker.exists():
            assert killed.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < until
            with pytest.raises(subprocess.TimeoutExpired):
                killed.wait(0.1)
    finally:
        killed.kill()
        killed.wait()
    (checkpoint,) = home.iterdir()
    assert checkpoint == unfinished_file(home, 1, 1)
    assert checkpoint.stat().st_mode & 0o777 == 0o600
    subprocess.run(command, check=True, timeout=240)
    with np.load(out) as found:
        assert found["steps"].tolist() == [9, 10]
        expected = Site(site, tmp_path / "other").uninterrupted()
        np.testing.assert_array_equal(found["vector"], expected.vector)
        assert found["state"].tobytes() == expected.state
        assert found["loss"] == expected.loss


@pytest.mark.parametrize(
    "other", [RoundTerms(2), RoundTerms(1, attempt=2), RoundTerms(1, rate=0.5), RoundTerms(1, share=0.5)]
)
def test_a_checkpoint_is_of_one_round_and_attempt(site: Path, tmp_path: Path, other: RoundTerms) -> None:
    here = Site(site, tmp_path)
    here.broken_off(8)
    found, steps = here.gone_on(other)
    assert steps == list(range(1, 11))
    assert same(found, here.uninterrupted(other))
    assert list(unfinished_rounds(tmp_path)) == [(other.round, other.attempt)]


def test_a_checkpoint_is_of_one_base_model_recipe_and_state(site: Path, tmp_path: Path) -> None:
    here = Site(site, tmp_path)
    here.broken_off(8)
    here.base = here.base + np.float32(1e-3)
    assert here.gone_on()[1] == list(range(1, 11))
    here.broken_off(8)
    kept, here.recipe = here.recipe, here.recipe.overridden({"training.lr": 0.01})
    assert here.gone_on()[1] == list(range(1, 11))
    here.recipe = kept
    here.broken_off(8)
    (tmp_path / "local-state.safetensors").write_bytes(here.uninterrupted().state)
    assert here.gone_on()[1] == list(range(1, 11))


def test_a_damaged_checkpoint_is_said_and_the_round_begins_again(
    site: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = Site(site, tmp_path)
    here.broken_off(8)
    file = unfinished_file(tmp_path, 1, 1)
    file.write_bytes(file.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        found, steps = here.gone_on()
    assert "damaged" in caplog.text
    assert steps == list(range(1, 11))
    assert same(found, here.uninterrupted())


def test_what_counts_leaves_no_checkpoint_and_neither_does_what_diverges(site: Path, tmp_path: Path) -> None:
    here = Site(site, tmp_path)
    agent = here.trainer()
    result = agent.train(here.base, here.layout, RoundTerms(1), silent)
    assert list(unfinished_rounds(tmp_path)) == [(1, 1)]  # until it is sealed
    agent.keep(result)
    assert list(unfinished_rounds(tmp_path)) == []
    wild = Site(site, tmp_path / "wild", training__lr=1e10, training__local_epochs=9)
    with pytest.raises(TrainingDiverged):
        wild.trainer().train(wild.base, wild.layout, RoundTerms(1), silent)
    assert list(unfinished_rounds(tmp_path / "wild")) == []


def test_checkpoints_are_written_now_and_then_and_take_little_of_the_time(tmp_path: Path) -> None:
    now = 0.0
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    kept = UnfinishedRound(tmp_path / "unfinished-1-1.safetensors", {"round": 1}, every=60.0, clock=lambda: now)
    written: list[int] = []
    for step in range(400):
        before = kept.path.stat().st_ino if kept.path.exists() else None
        kept.tend(network, optimizer, [0.5] * step)
        if kept.path.exists() and kept.path.stat().st_ino != before:
            written.append(step)
        now += 1.0
    assert written == [60, 120, 180, 240, 300, 360]
    found = kept.read()
    assert isinstance(found, Checkpoint)
    assert len(found.losses) == 360
    assert UnfinishedRound(kept.path, {"round": 2}).read() is None
