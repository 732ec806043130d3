"""What RLWE sealing costs beside sending plain float32: seal, add, unseal and the error of the mean.

Sealing and unsealing once on one thread and once on all cores; one thread adds. Each figure is one JSON line; a table
follows. Run it from the repository root:

    python -m benchmarks.sealing --parameters 11000000
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crypto.lanes import LaneFormat, RealEncoder, count_vector
from crypto.layout import CountField, Layout, Tensor
from crypto.lwe import Sealer, Unsealer, add, seal_parts, unseal_parts
from crypto.parallel import cores
from crypto.vector import VectorShape

SITES, K_MAX, N_MAX, TENSORS = 4, 16, 1000, 120
STUDY = uuid.UUID(int=1)


class Bench:
    """Sites' updates are drawn again from their seeds, so that memory is that of one site and one sum."""

    def __init__(self, parameters: int, folder: Path, threads: int) -> None:
        self.threads = threads
        self.layout = _layout(parameters)
        self.bounds = [1.0] * len(self.layout.tensors)
        self.shape = VectorShape.of(self.layout)
        self.format = LaneFormat(K_MAX)
        self.folder = folder

    def update(self, site: int) -> NDArray[np.float32]:
        return np.random.default_rng(site).standard_normal(self.layout.size, np.float32) * np.float32(0.01)

    def weight(self, site: int) -> float:
        return self.samples(site) / N_MAX

    def samples(self, site: int) -> int:
        return 400 + 200 * site

    def seal(self, site: int, update: NDArray[np.float32]) -> tuple[Sealer, list[NDArray[np.uint32]]]:
        sealer = Sealer.fresh(STUDY)
        encoder = RealEncoder(update, self.layout, self.bounds, self.weight(site), self.format)
        recipe = [site] * self.layout.counts_size
        parts = seal_parts(
            sealer,
            encoder,
            lambda: count_vector(self.samples(site), N_MAX, encoder.clipped, recipe),
            self.shape,
            self.format,
            self.threads,
        )
        return sealer, list(parts)

    def add_file(self, path: Path, totals: list[NDArray[np.uint32]]) -> None:
        buffer = np.empty(max(total.size for total in totals), np.uint32)
        with path.open("rb", buffering=0) as file:
            for total in totals:
                part = buffer[: total.size]
                file.readinto(part.data)
                add(total, part)

    def unseal(self, secret_sum: NDArray[np.int64], totals: list[NDArray[np.uint32]]) -> NDArray[np.float32]:
        mean, _ = unseal_parts(
            Unsealer(STUDY, secret_sum),
            totals,
            self.shape,
            self.layout,
            self.bounds,
            self.format,
            lambda counts: counts.capped_samples / N_MAX,
            self.threads,
        )
        return mean


def _layout(parameters: int) -> Layout:
    sizes = [parameters // TENSORS] * (TENSORS - 1)
    sizes.append(parameters - sum(sizes))
    tensors = tuple(Tensor(f"t{number}", (size,), "parameter") for number, size in enumerate(sizes))
    return Layout(tensors, (CountField("confusion", (4, 4)),))


def median(repeats: int, work: Callable[[], object]) -> float:
    """Median seconds of `work`, after one run that warms caches up."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure_sealed(bench: Bench, repeats: int) -> dict[str, float]:
    update = bench.update(0)
    seal = median(repeats, lambda: bench.seal(0, update))
    totals = [np.zeros(bench.shape.part_values(index), np.uint32) for index in range(bench.shape.parts)]
    secret_sum, path = np.zeros(2048, np.int64), bench.folder / "body"
    for site in range(SITES):
        sealer, parts = bench.seal(site, bench.update(site))
        with path.open("wb") as file:
            file.writelines(part.data for part in parts)
        bench.add_file(path, totals)
        secret_sum += sealer.secret
    scratch = [total.copy() for total in totals]
    return {
        "seal_seconds": seal,
        "add_seconds": median(repeats, lambda: bench.add_file(path, scratch)),
        "unseal_seconds": median(repeats, lambda: bench.unseal(secret_sum, totals)),
        "upload_bytes": sum(bench.shape.part_bytes(index) for index in range(bench.shape.parts)),
        "max_error": _error(bench, bench.unseal(secret_sum, totals)),
    }


def measure_plain(bench: Bench, repeats: int) -> dict[str, float]:
    """The same in float32: weigh and serialise, read and add, divide by the weights."""
    update, total = bench.update(0), np.zeros(bench.layout.size, np.float32)
    path, part = bench.folder / "plain", np.empty(bench.layout.size, np.float32)

    def serialise() -> bytes:
        return (update * np.float32(0.5)).tobytes()

    def add_file() -> None:
        with path.open("rb", buffering=0) as file:
            file.readinto(part.data)
        np.add(total, part, out=total)

    seal = median(repeats, serialise)
    weights = np.float32(sum(bench.weight(site) for site in range(SITES)))
    for site in range(SITES):
        path.write_bytes((bench.update(site) * np.float32(bench.weight(site))).tobytes())
        add_file()
    mean = total / weights
    return {
        "seal_seconds": seal,
        "add_seconds": median(repeats, add_file),
        "unseal_seconds": median(repeats, lambda: total / weights),
        "upload_bytes": 4 * bench.layout.size,
        "max_error": _error(bench, mean),
    }


def _error(bench: Bench, mean: NDArray[np.float32]) -> float:
    """Largest distance from the mean in float64, in units of the bound."""
    exact = np.zeros(bench.layout.size, np.float64)
    for site in range(SITES):
        exact += bench.weight(site) * bench.update(site).astype(np.float64)
    exact /= sum(bench.weight(site) for site in range(SITES))
    return float(np.abs(mean - exact).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=11_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        benches = {threads: Bench(arguments.parameters, Path(folder), threads) for threads in (1, cores())}
        rows = {f"sealed, {n} threads": measure_sealed(bench, arguments.repeats) for n, bench in benches.items()}
        rows["plain fp32"] = measure_plain(benches[1], arguments.repeats)
    for name, figures in rows.items():
        for figure, value in figures.items():
            print(json.dumps({"benchmark": "sealing", "case": name, "parameters": arguments.parameters, figure: value}))
    print(f"\n{'':16}" + "".join(f"{name:>20}" for name in rows))
    for figure in rows["plain fp32"]:
        print(f"{figure:16}" + "".join(f"{figures[figure]:>20.4g}" for figures in rows.values()))


if __name__ == "__main__":
    main()
