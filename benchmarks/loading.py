"""Does loading keep up with training? Cases a second from the cache, beside a training step of UCADI's network.

From the repository root, on the machine that is to train, in some minutes on a CPU:

    python benchmarks/loading.py --out benchmarks/results/loading.jsonl

Volumes of 200 slices of noise are put into a cache in --folder and taken from there as training takes them: mapped, a
random subset of slices, z-scored, 35 in a batch, some batches ahead. "warm": they are in the operating system's page
cache, as when memory is large enough for an epoch. "cold": they were dropped from it, so that the disk is read. Then
steps are made with them: "waited" is how long each waited for its batch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from models.recipe import load_recipe
from models.registry import build
from participant.case_data import Cases, batches
from participant.data.cache_folder import CacheFolder
from participant.data.cases import Case
from participant.data.dataset import CaseDataset
from participant.data.preprocessing import CTSettings

_SLICES: Final = 200
_REPEATS: Final = 5
_RECIPE: Final = load_recipe("ucadi")


class Kept(CaseDataset):
    """Cases that are in the cache already; nothing is read from a scanner's files."""

    def __init__(self, folder: CacheFolder, cases: int) -> None:
        super().__init__([Case(Path(str(number)), number % 4, str(number)) for number in range(cases)], CTSettings())
        self._prepared = _Mapped(folder)  # type: ignore[assignment]


class _Mapped:
    def __init__(self, folder: CacheFolder) -> None:
        self._folder = folder

    def get(self, case: Path) -> Any:
        return self._folder.array(f"volume-{case}")


def filled(folder: CacheFolder, cases: int) -> CacheFolder:
    rng = np.random.default_rng(0)
    volume = rng.normal(-600, 400, (_SLICES, *_RECIPE.input.size[1:])).astype(np.float16)
    for number in range(cases):
        folder.keep(f"volume-{number}", np.roll(volume, number, axis=0))
    return folder


def drop(folder: Path) -> None:
    """Forget what the operating system has in memory of these files."""
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def loading(cases: Cases, number: int, before: Callable[[], None]) -> float:
    """Cases a second over so many batches, with nothing else to do."""
    before()
    start = time.perf_counter()
    loaded = sum(len(labels) for _, labels in _stream(cases, number))
    return loaded / (time.perf_counter() - start)


def _stream(cases: Cases, number: int) -> Iterator[tuple[Tensor, Tensor]]:
    """So many full batches, epoch after epoch."""
    epochs = (batches(cases, _RECIPE.training.batch, epoch) for epoch in count())
    return islice(chain.from_iterable(epochs), number)


def training(cases: Cases, device: str, number: int, part: int) -> tuple[list[float], list[float]]:
    """Seconds waited and seconds computed, for each of so many steps; one before them is not counted.

    Args:
        part: so many cases go through the network at a time, for machines that have not the memory for all.
    """
    network = build(_RECIPE).to(device, memory_format=torch.channels_last_3d).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    waited, computed = [], []
    stream = _stream(cases, number + 1)
    for _ in range(number + 1):
        asked = time.perf_counter()
        inputs, labels = next(stream)
        ready = time.perf_counter()
        optimizer.zero_grad()
        for start in range(0, len(labels), part):
            some, known = inputs[start : start + part], labels[start : start + part]
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                scores = network(some.to(device).contiguous(memory_format=torch.channels_last_3d))
            loss = torch.nn.functional.cross_entropy(scores.float(), known.to(device))
            (loss * len(known) / len(labels)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        waited.append(ready - asked)
        computed.append(time.perf_counter() - ready)
    return waited[1:], computed[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=140)
    parser.add_argument("--batches", type=int, default=4, help="in one measurement: an epoch")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--part", type=int, default=35, help="cases in the network at a time; fewer take less memory")
    parser.add_argument("--folder", type=Path, help="on the disk that is to hold the cache")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = filled(CacheFolder(Path(place)), given.cases)
        cases = Cases([Kept(folder, given.cases)], _RECIPE.network.classes, 5)
        cold = [loading(cases, given.batches, lambda: drop(folder.path)) for _ in range(_REPEATS)]
        warm = [loading(cases, given.batches, lambda: None) for _ in range(_REPEATS)]
        waited, computed = training(cases, device, given.steps, given.part)
    trained = _RECIPE.training.batch / median(computed)
    result = {
        "benchmark": "loading",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {device}",
        "batch": _RECIPE.training.batch,
        "part": given.part,
        "slices": _SLICES,
        "warm_cases_per_second": round(median(warm), 1),
        "cold_cases_per_second": round(median(cold), 1),
        "trained_cases_per_second": round(trained, 2),
        "warm_loading_to_training": round(median(warm) / trained, 1),
        "cold_loading_to_training": round(median(cold) / trained, 1),
        "waited_share_of_step": round(median(waited) / (median(waited) + median(computed)), 5),
    }
    print(json.dumps(result))
    if given.out:
        with given.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
