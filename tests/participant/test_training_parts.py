"""Batches in parts: the same gradients, whatever goes through the network at once, and what batch norm makes of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load
from small_volumes import first_model, recipe, silent, trainer
from torch import nn

from participant.terms import RoundTerms
from participant.training import Machine, TooLittleMemory, Trainer
from participant.training.parts import Parts

# All of densenet3d's batch norms: frozen, they use the statistics that they have, and cases do not mix.
NORMS = ["stem.1.weight", "stem.1.bias", "stages.?.?.layers.[03].*", "stages.[13].0.weight", "stages.[13].0.bias",
         "head.0.weight", "head.0.bias"]  # fmt: skip
UNMIXED: dict[str, Any] = {"network__frozen": NORMS, "training__batch": 10, "training__local_epochs": 2}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def sizes(parts: Parts, cases: int) -> list[int]:
    found = parts.of(cases)
    assert [part.start for part in found[1:]] == [part.stop for part in found[:-1]]
    assert (found[0].start, found[-1].stop) == (0, cases)
    return [part.stop - part.start for part in found]


@pytest.mark.parametrize(
    ("most", "cases", "expected"),
    [
        (None, 35, [35]),
        (35, 35, [35]),
        (16, 35, [11, 12, 12]),
        (4, 5, [2, 3]),
        (2, 5, [2, 3]),
        (2, 3, [3]),
        (1, 3, [1, 1, 1]),
        (4, 1, [1]),
        (4, 0, [0]),
    ],
)
def test_parts_are_even_and_none_is_a_lone_case(most: int | None, cases: int, expected: list[int]) -> None:
    assert sizes(Parts(most), cases) == expected


def test_halving_goes_by_what_was_tried_and_ends_at_one() -> None:
    parts = Parts()
    for expected in (17, 6, 3, 1):
        parts.halve(35)
        assert parts.most == expected
    with pytest.raises(TooLittleMemory, match="not even one case"):
        parts.halve(35)


def with_parts(made: Any, site: Path, home: Path, most: int | None) -> Trainer:
    agent = trainer(made, site, home)
    agent.parts.most = most
    return agent


@pytest.mark.parametrize("most", [1, 3, 5])
def test_parts_add_up_to_the_whole_batch(site: Path, tmp_path: Path, most: int) -> None:
    made = recipe(**UNMIXED)
    base, layout = first_model(made)
    whole = trainer(made, site, tmp_path / "whole").train(base, layout, RoundTerms(1), silent)
    split = with_parts(made, site, tmp_path / "split", most).train(base, layout, RoundTerms(1), silent)
    assert not np.array_equal(split.vector, base)
    np.testing.assert_allclose(split.vector, whole.vector, rtol=1e-4, atol=1e-5)
    assert split.loss == pytest.approx(whole.loss, rel=1e-4)


def test_batch_norm_sees_parts_but_steps_are_counted_once(site: Path, tmp_path: Path) -> None:
    made = recipe(training__batch=10)
    base, layout = first_model(made)
    whole = trainer(made, site, tmp_path / "whole").train(base, layout, RoundTerms(1), silent)
    split = with_parts(made, site, tmp_path / "split", 5).train(base, layout, RoundTerms(1), silent)
    assert np.abs(split.vector - whole.vector).max() > 1e-3, "as the guide says, it trains otherwise"
    counts, expected = load(split.state), load(whole.state)
    assert set(counts) == set(expected)
    for name, value in expected.items():
        assert torch.equal(counts[name], value), f"{name} counts passes, not steps"


class SmallDevice:
    """Stands for a GPU that holds so many cases: later layers find it full, when the first ones have drawn already."""

    def __init__(self, holds: int) -> None:
        self.holds, self.refused = holds, 0

    def __deepcopy__(self, memo: dict[int, Any]) -> SmallDevice:
        return self  # one device for every network

    def __call__(self, module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if len(given[0]) > self.holds:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_batch_that_does_not_fit_is_halved_and_nothing_of_the_failed_pass_remains(
    site: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = recipe(training__batch=10, network__options__stem_drop=0.1)
    base, layout = first_model(made)
    small, device = trainer(made, site, tmp_path / "small"), SmallDevice(3)
    small._fresh.get_submodule("head").register_forward_pre_hook(device)
    with caplog.at_level(logging.WARNING):
        found = small.train(base, layout, RoundTerms(1), silent)
    assert device.refused == 2  # ten, then five; two fit
    assert "micro_batch = 2" in caplog.text
    expected = with_parts(made, site, tmp_path / "split", 2).train(base, layout, RoundTerms(1), silent)
    np.testing.assert_array_equal(found.vector, expected.vector)
    assert found.state == expected.state
    small.train(base, layout, RoundTerms(2), silent)
    assert device.refused == 2, "the next round has not learnt"


def test_a_device_that_holds_no_case_ends_the_training(site: Path, tmp_path: Path) -> None:
    made = recipe()
    agent = trainer(made, site, tmp_path)
    agent._fresh.get_submodule("head").register_forward_pre_hook(SmallDevice(0))
    with pytest.raises(TooLittleMemory):
        agent.train(*first_model(made), RoundTerms(1), silent)


def test_the_settings_part_batches_too(site: Path, tmp_path: Path) -> None:
    made = recipe(training__batch=10)
    base, layout = first_model(made)
    cases = trainer(made, site, tmp_path / "a").cases
    set_so = Trainer(made, cases, tmp_path / "b", 0, machine=Machine(threads=1, micro_batch=4))
    expected = with_parts(made, site, tmp_path / "c", 4).train(base, layout, RoundTerms(1), silent)
    np.testing.assert_array_equal(set_so.train(base, layout, RoundTerms(1), silent).vector, expected.vector)
