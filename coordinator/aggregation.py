"""Adding contributions up, and opening the sum into the next model. Every function may be killed and run again.

The coordinator adds 32-bit integers that mean nothing to it. Memory is two parts a thread, for any number of sites.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from coordinator import metrics
from coordinator.rounds.work import Revealed, Work
from coordinator.store.blobs import Blobs, Stored, model_key, part_key, sum_key
from crypto.canonical import canonical, sha256
from crypto.lanes import adapt_bounds
from crypto.schemes import scheme

THREADS: Final = 2
MODEL_FORMAT: Final = "pleura/model/v1"

# Called between parts, in the caller's thread: it renews the lease, or raises to break the work off.
Beat = Callable[[], None]


class PartLost(Exception):
    """A stored part is gone or damaged, so the sum cannot be formed."""


def add_up(blobs: Blobs, work: Work, beat: Beat) -> float:
    """Write the sum of each part to the blob store, and return the seconds it took; sums already there are kept.

    Raises:
        PartLost: naming the site and the part.
        DiskFull: try again later.
    """
    started = time.perf_counter()
    sizes = scheme(work.plan.scheme).part_sizes(work.plan, work.layout)
    missing = [number for number in range(len(sizes)) if not blobs.exists(sum_key(work.round_id, number))]
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(_add_part, blobs, work, number, sizes[number]) for number in missing]
        try:
            for done in waiting:
                done.result()
                beat()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return time.perf_counter() - started


def reveal(blobs: Blobs, work: Work, secret_sum: Sequence[int], lowest_bounds: Sequence[float], beat: Beat) -> Revealed:
    """Open the sums, and write the next model's file.

    Args:
        secret_sum: 2,048 integers from an opener, not trusted.
        lowest_bounds: for each tensor, of all plans of the study so far.

    Raises:
        OpeningRefused: `secret_sum` does not open these sums, or a contribution was malformed.
        PartLost, DiskFull: as in `add_up`.
    """
    started = time.perf_counter()
    add_up(blobs, work, beat)
    plan, contributors = work.plan, len(work.ballot.manifests)
    opened = scheme(plan.scheme).reveal(plan, work.layout, _totals(blobs, work, beat), secret_sum, contributors)
    bounds, model, counts = list(plan.bounds), None, opened.counts
    if opened.mean is not None:
        stored = _write_model(blobs, work, opened.mean)
        model = (stored.sha256, stored.size)
        bounds = adapt_bounds(bounds, counts.clipped, work.layout, contributors, lowest_bounds)
    named = metrics.named_counts(counts.recipe, work.layout.counts)
    pooled = {
        "samples": counts.samples,
        "capped_samples": counts.capped_samples,
        "clipped": list(counts.clipped),
        "recipe": {name: values.tolist() for name, values in named.items()},
    }
    return Revealed(model, bounds, pooled, metrics.measures(named), time.perf_counter() - started)


def _add_part(blobs: Blobs, work: Work, number: int, size: int) -> None:
    total, part = np.zeros(size // 4, np.uint32), memoryview(bytearray(size))
    for signed in work.ballot.manifests:
        manifest = signed.message
        _read_part(blobs, part_key(work.round_id, manifest.site, "body", number), manifest.parts[number], part)
        scheme(work.plan.scheme).add(total, part)
    blobs.put_bytes(sum_key(work.round_id, number), total.data.cast("B"))


def _read_part(blobs: Blobs, key: str, digest: str, part: memoryview) -> None:
    """Hashed again, as a bit that fell over on the disk would end up in the model."""
    try:
        with blobs.open(key) as file:
            size = file.readinto(part)  # type: ignore[attr-defined]
    except FileNotFoundError:
        raise PartLost(f"{key} is not in the blob store any more") from None
    if size != part.nbytes or sha256(part) != digest:
        raise PartLost(f"{key} was damaged in the blob store")


def _totals(blobs: Blobs, work: Work, beat: Beat) -> Iterator[NDArray[np.uint32]]:
    for number in range(len(scheme(work.plan.scheme).part_sizes(work.plan, work.layout))):
        beat()
        yield np.frombuffer(blobs.read(sum_key(work.round_id, number)), np.uint32)


def _write_model(blobs: Blobs, work: Work, mean: NDArray[np.float32]) -> Stored:
    """The base model plus the mean update, in the form of `pleura-participant model new`, with study and round.

    The sum takes the place of `mean`, so that it is not in memory twice.
    """
    plan = work.plan
    base = load(blobs.read(model_key(plan.base_model)))
    tensors = {}
    for tensor, place in work.layout.slices():
        mean[place] += base[tensor.name].reshape(-1)
        tensors[tensor.name] = mean[place].reshape(tensor.shape)
    metadata = {
        "format": MODEL_FORMAT,
        "layout": canonical(work.layout.to_json()).decode(),
        "recipe": canonical(work.recipe).decode(),
        "study": str(plan.study),
        "round": str(plan.round),
    }
    data = _with_sorted_metadata(save(tensors, metadata))
    return blobs.put_bytes(model_key(sha256(data)), data)


def _with_sorted_metadata(data: bytes) -> bytes:
    """The same file in one spelling: safetensors writes metadata in random order, so a second reveal would differ."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight, as the format wants it
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
