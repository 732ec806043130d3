"""Adding contributions up, and opening the sum into the next model. Every function may be killed and run again.

The coordinator adds numbers that mean nothing to it. Memory is a few parts a thread, for any number of sites.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from coordinator.adoption import pooled
from coordinator.rounds.work import Revealed, Work
from coordinator.server_optimiser import first_state, keeps_state, take_step
from coordinator.store.blobs import Blobs, Stored, model_key, part_key, server_state_key, sum_key
from coordinator.terms import Terms
from crypto.canonical import sha256
from crypto.ckks_public import PublicContext
from crypto.errors import Malformed, OpeningRefused
from crypto.lanes import adapt_bounds
from crypto.manifest import BodyOpening
from crypto.model_file import next_model
from crypto.parallel import cores
from crypto.schemes import scheme

THREADS: Final = cores()

# Called between parts, in the caller's thread: it renews the lease, or raises to break the work off.
Beat = Callable[[], None]


class PartLost(Exception):
    """What was stored is gone or damaged, or a part cannot be added, so that nothing can come of the sum."""


def add_up(blobs: Blobs, work: Work, beat: Beat, public: PublicContext | None = None) -> float:
    """Write the sum of each part to the blob store, and return the seconds it took; sums already there are kept.

    Args:
        public: the epoch's public context, under `ckks`.

    Raises:
        PartLost: naming the site and the part.
        DiskFull: try again later.
    """
    started = time.perf_counter()
    sizes = scheme(work.plan.scheme).part_sizes(work.plan, work.layout)
    missing = [number for number in range(len(sizes)) if not blobs.exists(sum_key(work.round_id, number))]
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(_add_part, blobs, work, number, sizes[number], public) for number in missing]
        try:
            for done in waiting:
                done.result()
                beat()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return time.perf_counter() - started


def reveal(
    blobs: Blobs,
    work: Work,
    secret_sum: Sequence[int],
    lowest_bounds: Sequence[float],
    beat: Beat,
    body: BodyOpening | None = None,
) -> Revealed:
    """Open the sums, and write the next model's file.

    Args:
        secret_sum: 2,048 integers that the answers gave, not trusted; none under `ckks`.
        lowest_bounds: for each tensor, of all plans of the study so far.
        body: under `ckks`, the answer of the opener, which uploaded the opened parts before.

    Raises:
        OpeningRefused: `secret_sum` or the opened parts do not open these sums, or a contribution was malformed.
        PartLost, DiskFull: as in `add_up`.
    """
    started = time.perf_counter()
    plan, contributors, by_name = work.plan, len(work.ballot.manifests), scheme(work.plan.scheme)
    sizes = by_name.opened_sizes(plan, work.layout)
    if sizes:
        totals = _opened_parts(blobs, work.round_id, sizes, body, beat)
    else:
        add_up(blobs, work, beat)
        totals = _totals(blobs, work, beat)
    opened = by_name.reveal(plan, work.layout, totals, secret_sum, contributors)
    bounds, model, state, counts = list(plan.bounds), None, None, opened.counts
    if opened.mean is not None:
        state = _optimise(blobs, work, opened.mean)
        stored = _write_model(blobs, work, opened.mean)
        model = (stored.sha256, stored.size)
        if plan.origin is None:  # else what was made under these bounds may still be carried
            bounds = adapt_bounds(bounds, counts.clipped, work.layout, contributors, lowest_bounds)
    return Revealed(model, bounds, *pooled(counts, work.layout), time.perf_counter() - started, state)


def _add_part(blobs: Blobs, work: Work, number: int, size: int, public: PublicContext | None) -> None:
    adder = scheme(work.plan.scheme).adder(work.plan, work.layout, number, public)
    buffer = memoryview(bytearray(size))
    for signed in work.ballot.manifests:
        manifest = signed.message
        key = part_key(work.places.get(manifest.site, work.round_id), manifest.site, "body", number)
        part = _read_part(blobs, key, manifest.parts[number], buffer)
        try:
            adder.add(part)
        except Malformed as error:
            raise PartLost(f"{key} cannot be added: {error}") from None
    blobs.put_bytes(sum_key(work.round_id, number), adder.total())


def _read_part(blobs: Blobs, key: str, digest: str, buffer: memoryview) -> memoryview:
    """The part, in `buffer`. Hashed again, as a bit that fell over on the disk would end up in the model."""
    try:
        with blobs.open(key) as file:
            part = buffer[: file.readinto(buffer)]  # type: ignore[attr-defined]
    except FileNotFoundError:
        raise PartLost(f"{key} is not in the blob store any more") from None
    if sha256(part) != digest:
        raise PartLost(f"{key} was damaged in the blob store")
    return part


def _totals(blobs: Blobs, work: Work, beat: Beat) -> Iterator[bytes]:
    for number in range(len(scheme(work.plan.scheme).part_sizes(work.plan, work.layout))):
        beat()
        yield blobs.read(sum_key(work.round_id, number))


def _opened_parts(
    blobs: Blobs, round_id: UUID, sizes: Sequence[int], body: BodyOpening | None, beat: Beat
) -> Iterator[bytes]:
    """What the opener uploaded. Whatever is wrong with it, another opener may still put right."""
    if body is None or len(body.parts) != len(sizes):
        raise OpeningRefused(f"the opener did not sign for just {len(sizes)} opened parts")
    for number, (size, digest) in enumerate(zip(sizes, body.parts, strict=True)):
        beat()
        try:
            part = blobs.read(part_key(round_id, body.site, "opened", number))
        except FileNotFoundError:
            raise OpeningRefused(f"opened part {number} is not in the blob store") from None
        if len(part) != size or sha256(part) != digest:
            raise OpeningRefused(f"opened part {number} in the blob store is not the one that the opener signed for")
        yield part


def _optimise(blobs: Blobs, work: Work, mean: NDArray[np.float32]) -> str | None:
    """Put the server optimiser's step in the mean's place.

    Returns:
        The digest of what it remembers for the next round, if anything: the same, however often this is repeated.
    """
    rule = Terms.of(work.recipe).server
    if rule.plain:
        return None
    state = _former_state(blobs, work) if work.server_state else first_state(rule, work.layout)
    take_step(rule, work.layout, mean, state)
    if not keeps_state(rule):
        return None
    digest = sha256(memoryview(state))
    blobs.put_bytes(server_state_key(work.plan.study, digest), memoryview(state))
    return digest


def _former_state(blobs: Blobs, work: Work) -> bytearray:
    key = server_state_key(work.plan.study, work.server_state or "")
    try:
        with blobs.open(key) as file:
            state = bytearray(blobs.size(key))
            file.readinto(state)  # type: ignore[attr-defined]
    except FileNotFoundError:
        raise PartLost(f"the server optimiser's state {key} is not in the blob store any more: restore it") from None
    if sha256(memoryview(state)) != work.server_state:
        raise PartLost(f"the server optimiser's state {key} was damaged in the blob store: restore it")
    return state


def _write_model(blobs: Blobs, work: Work, mean: NDArray[np.float32]) -> Stored:
    plan = work.plan
    start = blobs.read(model_key(plan.origin or plan.base_model))
    data = next_model(start, work.layout, mean, work.recipe, plan.study, plan.round)
    return blobs.put_bytes(model_key(sha256(data)), data)
