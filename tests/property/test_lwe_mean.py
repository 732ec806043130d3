"""Whatever sites seal, the opened mean is the float64 mean, the counts are exact, and no other key opens it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.errors import CanaryMismatch
from crypto.lanes import LaneFormat, RealEncoder, count_vector
from crypto.layout import CountField, Layout, Tensor
from crypto.lwe import Sealer, Unsealer, add, draw_secret, seal_parts, unseal_parts
from crypto.parameters import COUNT_LIMIT, SIGMA, N
from crypto.vector import VectorShape

STATED = 1e-6  # of the bound: mean weights of 0.25 and more, K_max <= 128 and at most twice the contributors
N_MAX = 1000


@dataclass
class Round:
    study: uuid.UUID
    layout: Layout
    bounds: tuple[float, ...]
    lane_format: LaneFormat
    updates: np.ndarray  # float32 [K, size]
    samples: list[int]
    recipe: np.ndarray  # int [K, counts]

    @property
    def weights(self):
        return np.minimum(self.samples, N_MAX) / N_MAX

    @property
    def wide_bounds(self):
        return np.repeat(self.bounds, [tensor.size for tensor in self.layout.tensors])


@st.composite
def rounds(draw):
    contributors = draw(st.integers(2, 64))
    sizes = draw(st.lists(st.integers(1, 1500), min_size=1, max_size=4))
    layout = Layout(
        tuple(Tensor(f"t{i}", (size,), "parameter") for i, size in enumerate(sizes)),
        (CountField("counts", (draw(st.integers(1, 900)),)),),
    )
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reach = draw(st.sampled_from([1e-4, 0.1, 0.999, 3.0]))  # of the bound: from tiny updates to mostly clipped ones
    bounds = tuple(draw(st.sampled_from([2.0**-6, 0.3, 1.0, 64.0])) for _ in sizes)
    wide = np.repeat(bounds, sizes)
    updates = (random.uniform(-reach, reach, (contributors, layout.size)) * wide).astype(np.float32)
    if draw(st.booleans()):  # every site at the limit: the sum comes as near to 2^31 as it can
        updates[:, 0] = -wide[0] * 4
        updates[:, -1] = wide[-1] * 4
    samples = random.integers(250, 2 * N_MAX, contributors).tolist()
    recipe = random.integers(0, COUNT_LIMIT, (contributors, layout.counts_size))
    lane_format = LaneFormat(draw(st.integers(contributors, min(2 * contributors, 128))))
    return Round(uuid.uuid4(), layout, bounds, lane_format, updates, samples, recipe)


def seal(case):
    """Seal every site's contribution and add them up: (summed parts, secrets, encoders)."""
    shape = VectorShape.of(case.layout)
    totals = [np.zeros(shape.part_values(index), np.uint32) for index in range(shape.parts)]
    secrets, encoders = [], []
    for update, samples, weight, recipe in zip(case.updates, case.samples, case.weights, case.recipe, strict=True):
        sealer = Sealer.fresh(case.study)
        encoder = RealEncoder(update, case.layout, case.bounds, float(weight), case.lane_format)

        def counts(samples=samples, encoder=encoder, recipe=recipe):
            return count_vector(samples, N_MAX, encoder.clipped, recipe.tolist())

        for total, part in zip(totals, seal_parts(sealer, encoder, counts, shape, case.lane_format), strict=True):
            add(total, part)
        secrets.append(sealer.secret)
        encoders.append(encoder)
    return totals, secrets, encoders


def unseal(case, totals, secrets):
    return unseal_parts(
        Unsealer(case.study, sum(secrets)),
        totals,
        VectorShape.of(case.layout),
        case.layout,
        case.bounds,
        case.lane_format,
        lambda counts: counts.capped_samples / N_MAX,
    )


@given(rounds())
@settings(max_examples=60, deadline=None)
def test_mean_and_counts(case):
    totals, secrets, encoders = seal(case)
    mean, counts = unseal(case, totals, secrets)

    weights = case.weights.reshape(-1, 1)
    weighted = np.clip(weights * case.updates.astype(np.float64), -case.wide_bounds, case.wide_bounds)
    expected = weighted.sum(axis=0) / weights.sum()
    assert (np.abs(mean - expected) <= STATED * case.wide_bounds).all()

    assert counts.samples == sum(case.samples)
    assert counts.capped_samples == np.minimum(case.samples, N_MAX).sum()
    assert counts.recipe == tuple(case.recipe.sum(axis=0).tolist())
    assert counts.clipped == tuple(np.sum([encoder.clipped for encoder in encoders], axis=0).tolist())


@given(rounds())
@settings(max_examples=20, deadline=None)
def test_what_was_sent_and_what_was_kept_make_up_the_update(case):
    _, _, encoders = seal(case)
    for update, weight, encoder in zip(case.updates, case.weights, encoders, strict=True):
        sent = np.clip(update.astype(np.float64), -case.wide_bounds / weight, case.wide_bounds / weight)
        np.testing.assert_allclose(sent + encoder.residual, update, rtol=1e-6, atol=1e-6 * case.wide_bounds.max())
        clipped = np.abs(update.astype(np.float64)) * weight > case.wide_bounds * (1 + 1e-9)
        assert np.count_nonzero(encoder.residual[~clipped]) == 0
        assert sum(encoder.clipped) == clipped.sum()


@given(rounds(), st.sampled_from(["missing", "foreign", "twice"]), st.data())
@settings(max_examples=30, deadline=None)
def test_a_wrong_set_of_secrets_gives_noise_and_not_the_mean(case, fault, data):
    totals, secrets, _ = seal(case)
    site = data.draw(st.integers(0, len(secrets) - 1))
    others = secrets[:site] + secrets[site + 1 :]
    wrong = {"missing": others, "foreign": [*others, draw_secret()], "twice": [*secrets, secrets[site]]}[fault]
    with pytest.raises(CanaryMismatch):
        unseal(case, totals, wrong)

    right = Unsealer(case.study, sum(secrets)).unseal_part(0, totals[0])
    noise = Unsealer(case.study, sum(wrong)).unseal_part(0, totals[0])
    uniform = 2**32 / np.sqrt(12)
    for lanes in (noise.astype(np.float64), (noise - right).astype(np.float64)):  # not the mean plus a little either
        assert 0.9 < lanes.std() / uniform < 1.1
        assert abs(lanes.mean()) < 8 * uniform / np.sqrt(lanes.size)


@given(k_max=st.integers(1, 1024), data=st.data())
@settings(max_examples=30, deadline=None)
def test_error_of_the_mean_is_rounding_and_noise_under_any_format(k_max, data):
    """With few contributors under a wide format the mean is coarser than the stated bound, and exactly this coarse."""
    contributors = data.draw(st.integers(1, min(k_max, 32)))
    lane_format, study = LaneFormat(k_max), uuid.uuid4()
    layout = Layout((Tensor("t", (N,), "parameter"),))
    updates = np.random.default_rng(k_max).uniform(-1, 1, (contributors, N)).astype(np.float32)
    case = Round(study, layout, (1.0,), lane_format, updates, [N_MAX] * contributors, np.empty((contributors, 0), int))
    totals, secrets, _ = seal(case)
    mean, _ = unseal(case, totals, secrets)
    steps = 8 * SIGMA * np.sqrt(contributors) + contributors / 2
    tolerance = steps / (lane_format.Q * contributors) + 2.0**-24
    np.testing.assert_allclose(mean, updates.mean(axis=0, dtype=np.float64), rtol=0, atol=tolerance)
