"""A round on two devices, here two processes on the CPU: real ones, started as on two GPUs, that join by gloo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from small_volumes import first_model, recipe, silent
from test_training_parts import UNMIXED

from models.recipe import Recipe
from participant.terms import RoundTerms
from participant.training import Machine, Trainer, TrainingDiverged, site_trainer
from participant.training_files import LastRound

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def on(devices: int, made: Recipe, site: Path, home: Path, device: str = "cpu", **machine: Any) -> Trainer:
    chosen = Machine(device=device, devices=devices, threads=1, **machine)
    return site_trainer(made, site, site / ".." / "cache", 0, state_dir=home, machine=chosen, study="a study")


def workers(home: Path) -> list[psutil.Process]:
    """Processes that train in that folder."""
    return [each for each in psutil.process_iter(["cmdline"]) if str(home) in " ".join(each.info["cmdline"] or [])]


def test_two_devices_train_as_one_with_the_same_batches(site: Path, tmp_path: Path) -> None:
    made = recipe(**UNMIXED | {"training__class_weights": "balanced"}, federation__proximal=0.1)
    base, layout = first_model(made)
    steps: list[tuple[int, int]] = []
    two = on(2, made, site, tmp_path / "two", micro_batch=3)
    found = two.train(base, layout, RoundTerms(1), lambda *step: steps.append(step))
    expected = on(1, made, site, tmp_path / "one").train(base, layout, RoundTerms(1), silent)
    np.testing.assert_allclose(found.vector, expected.vector, rtol=1e-4, atol=1e-5)
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    assert found.state == expected.state
    assert found.samples == 21
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert two.evaluate(found.vector, layout, silent) == two.evaluate(expected.vector, layout, silent)
    last = LastRound.read(tmp_path / "two")
    assert last is not None
    assert (last.devices, last.device, last.at_once) == (2, "cpu", 3)
    assert {file.name for file in (tmp_path / "two").iterdir()} == {"last-round.json"}


def test_work_that_is_called_off_ends_all_processes(site: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert len(workers(tmp_path)) == 2
        raise InterruptedError

    made = recipe(training__local_steps=200)
    with pytest.raises(InterruptedError):
        on(2, made, site, tmp_path, checkpoint_seconds=0).train(*first_model(made), RoundTerms(1), stop)
    psutil.wait_procs(workers(tmp_path), timeout=60)
    assert not workers(tmp_path)
    left = {file.name for file in tmp_path.iterdir()}  # a file may have been half-written
    assert all("unfinished-1-1.safetensors" in name for name in left), left


def test_what_one_process_meets_is_the_agents_error(site: Path, tmp_path: Path) -> None:
    made = recipe(training__lr=1e30)
    with pytest.raises(TrainingDiverged, match=r"lower training\.lr"):
        on(2, made, site, tmp_path).train(*first_model(made), RoundTerms(1), silent)
    assert not workers(tmp_path)


def test_batches_too_small_to_share_are_trained_here(site: Path, tmp_path: Path) -> None:
    made = recipe(training__batch=3, training__local_steps=1)
    base, layout = first_model(made)
    found = on(2, made, site, tmp_path / "two").train(base, layout, RoundTerms(1), silent)
    expected = on(1, made, site, tmp_path / "one").train(base, layout, RoundTerms(1), silent)
    np.testing.assert_array_equal(found.vector, expected.vector)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs here")
def test_two_gpus_train_as_one_batch_norm_included(site: Path, tmp_path: Path) -> None:
    made = recipe(training__batch=10)
    base, layout = first_model(made)
    found = on(2, made, site, tmp_path / "two", "cuda").train(base, layout, RoundTerms(1), silent)
    expected = on(1, made, site, tmp_path / "one", "cuda").train(base, layout, RoundTerms(1), silent)
    np.testing.assert_allclose(found.vector, expected.vector, rtol=1e-3, atol=1e-4)
