"""Whatever sites seal under `ckks`, the opened mean is that of float64 but for the opener's noise."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.canonical import sha256
from crypto.ckks_body import read_frames, write_frames
from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext
from crypto.errors import Malformed
from crypto.layout import CountField, Layout, Tensor
from crypto.manifest import Ballot, Manifest
from crypto.parameters import CKKS_OPENING_NOISE
from crypto.plan import Plan
from crypto.schemes import scheme
from crypto.schemes.opening import open_bodies
from crypto.wire import Signed

SCHEME = scheme("ckks")
SECRET = SecretContext.generate()
PUBLIC = PublicContext.load(SECRET.public_bytes())
SITES = [uuid.UUID(int=number) for number in range(1, 9)]
N_MAX = 500


def plan_of(layout, bounds, k_max, weighting):
    return Plan(
        study=uuid.UUID(int=5),
        round=1,
        attempt=1,
        kind="training",
        base_model="00" * 32,
        layout=layout.digest,
        recipe="11" * 32,
        roster="33" * 32,
        epoch="22" * 32,
        scheme="ckks",
        release="open",
        weighting=weighting,
        expected=tuple(SITES),
        k_max=k_max,
        n_max=N_MAX,
        bounds=bounds,
        threshold=None,
        minimum_contributors=2,
        collect_until=1,
        vote_seconds=1,
        open_seconds=1,
    )


@st.composite
def rounds(draw):
    sizes = draw(st.lists(st.sampled_from([1, 7, 300, 2048, 2500]), min_size=1, max_size=3))
    layout = Layout(
        tuple(Tensor(f"t{i}", (size,), "parameter") for i, size in enumerate(sizes)),
        (CountField("confusion", (draw(st.integers(1, 4)), 2)),),
    )
    bounds = tuple(draw(st.sampled_from([2.0**-16, 2.0**-6, 1.0, 64.0, 2.0**20])) for _ in sizes)
    k_max = draw(st.sampled_from([8, 64, 511, 512, 1024]))
    plan = plan_of(layout, bounds, k_max, draw(st.sampled_from(["samples", "equal"])))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reach = draw(st.sampled_from([1e-3, 0.9, 2.0]))
    return plan, layout, sizes, draw(st.integers(2, 8)), reach, random


@given(rounds())
@settings(max_examples=25, deadline=None)
def test_the_opened_mean_is_the_float64_mean(case):
    plan, layout, sizes, contributors, reach, random = case
    wide = np.repeat(plan.bounds, sizes)
    updates = (random.uniform(-1, 1, (contributors, layout.size)) * reach * wide).astype(np.float32)
    samples = random.integers(N_MAX // 4, 2 * N_MAX, contributors)
    recipe = random.integers(0, 2**24, (contributors, layout.counts_size))
    adders = [SCHEME.adder(plan, layout, number, PUBLIC) for number in range(len(SCHEME.part_sizes(plan, layout)))]
    manifests, clipped = [], []
    for site, update, number, counts in zip(SITES, updates, samples.tolist(), recipe.tolist(), strict=False):
        sealed = SCHEME.seal(plan, layout, update, number, counts, PUBLIC)
        digests = []
        for index, (adder, part) in enumerate(zip(adders, sealed, strict=True)):
            SCHEME.check_part(plan, layout, index, part, PUBLIC)
            adder.add(part)
            digests.append(sha256(part))
        clipped.append(sealed.clipped)
        manifest = Manifest(plan=plan.digest, site=site, parts=tuple(digests), key_parts=())
        manifests.append(Signed[Manifest](message=manifest, signature="0" * 128))
    ballot = Ballot(plan=plan.digest, manifests=tuple(manifests))
    opened = list(open_bodies(plan, layout, ballot, [adder.total() for adder in adders], SECRET))
    assert tuple(map(len, opened)) == SCHEME.opened_sizes(plan, layout)
    revealed = SCHEME.reveal(plan, layout, opened, (), contributors)

    weights = np.ones(contributors) if plan.weighting == "equal" else np.minimum(samples, N_MAX) / N_MAX
    weighted = np.clip(weights[:, None] * updates.astype(np.float64), -wide, wide)
    error = np.abs(revealed.mean - weighted.sum(axis=0) / weights.sum()) / wide
    assert error.max() <= 7.5 * CKKS_OPENING_NOISE / weights.sum() + 2.0**-21
    assert revealed.counts.samples == samples.sum()
    assert revealed.counts.recipe == tuple(recipe.sum(axis=0).tolist())
    assert revealed.counts.clipped == tuple(np.sum(clipped, axis=0).tolist())


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_frames_are_read_as_they_were_written(frames):
    data = write_frames(frames)
    assert list(read_frames(data, len(frames))) == frames
    for wrong in {len(frames) + 1, max(len(frames) - 1, 0)} - {len(frames)}:
        with pytest.raises(Malformed):
            list(read_frames(data, wrong))


@given(st.binary(max_size=300), st.integers(1, 64))
def test_any_bytes_are_frames_or_are_refused(data, count):
    try:
        frames = list(read_frames(data, count))
    except Malformed:
        return
    assert write_frames(frames) == data
