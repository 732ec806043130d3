"""Loading ahead: in order, really ahead, and never beyond what is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import small_volumes as small
import torch

from participant.case_data import CaseData, batches
from participant.data.ahead import THREADS, ahead


def test_the_order_is_kept_though_later_loads_are_faster() -> None:
    second = threading.Event()

    def first() -> int:
        assert second.wait(20), "the second was loaded meanwhile"
        return 1

    def other() -> int:
        second.set()
        return 2

    assert list(ahead([first, other])) == [1, 2]


def test_no_more_is_taken_than_is_ahead_and_nobody_waits_for_what_is_not_wanted() -> None:
    taken: list[int] = []
    closed = threading.Event()

    def loads() -> Iterator[Callable[[], int]]:
        for number in range(100):
            taken.append(number)
            yield partial(load, number)

    def load(number: int) -> int:
        assert number == 0 or closed.wait(20), "the stream was closed while this was loaded"
        return number

    stream = ahead(loads(), threads=2)
    assert taken == []
    assert next(stream) == 0
    assert taken == [0, 1, 2]
    start = threading.active_count()
    stream.close()
    assert threading.active_count() == start, "the loads are still under way"
    closed.set()


def test_a_fault_is_raised_in_its_place() -> None:
    def fault() -> int:
        raise ValueError("torn")

    stream = ahead([lambda: 1, fault, lambda: 3])
    assert next(stream) == 1
    with pytest.raises(ValueError, match="torn"):
        next(stream)


def test_batches_are_the_same_each_time_and_loading_draws_nothing_from_torch(site: Path, tmp_path: Path) -> None:
    data = CaseData.read(small.recipe(training__augmentation__rotation=10.0), site, tmp_path, seed=0)
    stream = batches(data.training, 4, 7)
    once = [next(stream)]
    begun = torch.get_rng_state()  # from which dropout draws, while others are loaded
    once += stream
    assert torch.equal(torch.get_rng_state(), begun)
    assert len(once) > THREADS
    for (inputs, labels), (same, others) in zip(once, batches(data.training, 4, 7), strict=True):
        assert torch.equal(inputs, same)
        assert torch.equal(labels, others)
    alone = {_told(*data.training[place]) for place in range(len(data.training))}
    loaded = [_told(one, int(label)) for batch in once for one, label in zip(*batch, strict=True)]
    assert len(loaded) == len(set(loaded)) == len(alone) - 1, "21 cases, of which a lone last one is left out"
    assert set(loaded) < alone


def _told(inputs: torch.Tensor, label: int) -> tuple[float, int]:
    return round(float(inputs.double().sum()), 3), label
