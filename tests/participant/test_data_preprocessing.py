"""UCADI's preprocessing and its five subsets; films."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from participant.data.preprocessing import (
    CTSettings,
    XRaySettings,
    prediction_subsets,
    prepare_ct,
    prepare_xray,
    slice_step,
    statistics,
    training_subset,
    xray_tensor,
)
from participant.data.volume import Volume

RAW = CTSettings(size=(16, 4, 4), mean=0.0, std=1.0)


def ct(voxels: np.ndarray) -> Volume:
    return Volume(voxels.astype(np.float32), (1.0, 1.0, 1.0), "ct", "LPS", Path("case"))


def numbered(slices: int) -> np.ndarray:
    """A prepared CT whose slices carry their number."""
    return np.broadcast_to(np.arange(slices, dtype=np.float16)[:, None, None], (slices, 4, 4))


def test_hu_are_clipped_resized_by_area_and_scored() -> None:
    voxels = np.zeros((20, 512, 512))
    voxels[:, :, ::2] = 200
    voxels[0], voxels[1] = -3000, 3000
    settings = CTSettings()
    prepared = prepare_ct(ct(voxels), settings)
    assert prepared.shape == (20, 128, 128)
    assert (prepared[0].max(), prepared[1].min()) == (-1200, 600)
    # Antialiased: stripes finer than the new pixels become their mean, away from the border.
    np.testing.assert_allclose(prepared[5][4:-4, 4:-4], 100, atol=2)
    scored = training_subset(prepared[1:], settings, np.random.default_rng(0))
    assert scored.shape == (1, 16, 128, 128)
    assert scored.dtype == torch.float32
    top = prediction_subsets(np.full((16, 2, 2), 600, np.float16), settings, np.random.default_rng(0), 1)
    assert float(top[0, 0, 0, 0, 0]) == pytest.approx((600 + 604.229) / 489.422, rel=1e-6)


@pytest.mark.parametrize(("slices", "step"), [(16, 1), (80, 1), (81, 2), (160, 2), (161, 5), (400, 5), (10, 1)])
def test_published_steps(slices: int, step: int) -> None:
    assert slice_step(slices, RAW) == step


def test_a_step_that_does_not_fit_is_shortened() -> None:
    assert slice_step(100, CTSettings(size=(64, 4, 4))) == 1
    assert slice_step(170, CTSettings(size=(64, 4, 4))) == 2


@given(st.integers(1, 420), st.sampled_from([4, 16, 32]), st.integers(0, 2**32))
def test_a_subset_lies_in_the_volume_in_order(slices: int, depth: int, seed: int) -> None:
    settings = CTSettings(size=(depth, 4, 4), mean=0.0, std=1.0)
    taken = training_subset(numbered(slices), settings, np.random.default_rng(seed))[0, :, 0, 0].numpy()
    assert len(taken) == depth
    steps = np.diff(taken)
    if slices >= depth:
        assert set(steps) == {slice_step(slices, settings)}
    else:  # stretched over the whole volume
        assert (taken[0], taken[-1]) == (0, slices - 1)
        assert steps.min() >= 0
    assert 0 <= taken.min() <= taken.max() < slices


def test_every_slice_is_reached_and_the_seed_decides() -> None:
    reached = set()
    for seed in range(200):
        subset = training_subset(numbered(40), RAW, np.random.default_rng(seed))
        reached |= set(subset[0, :, 0, 0].tolist())
    assert reached == set(range(40))
    five = prediction_subsets(numbered(200), RAW, np.random.default_rng(7))
    assert five.shape == (5, 1, 16, 4, 4)
    assert len({float(subset[0, 0, 0, 0]) for subset in five}) > 1
    assert torch.equal(five, prediction_subsets(numbered(200), RAW, np.random.default_rng(7)))


def test_films_are_stretched_and_repeated_in_each_channel() -> None:
    film = Volume(np.linspace(0, 1, 60 * 90, dtype=np.float32).reshape(60, 90), None, "xray", "", Path("film.png"))
    settings = XRaySettings(size=(32, 32), mean=0.5, std=0.25)
    prepared = prepare_xray(film, settings)
    assert prepared.shape == (32, 32)
    assert 0 <= prepared.min() < 0.02
    assert 0.98 < prepared.max() <= 1
    tensor = xray_tensor(prepared, settings)
    assert tensor.shape == (3, 32, 32)
    assert torch.equal(tensor[0], tensor[2])
    assert float(tensor.mean()) == pytest.approx(0, abs=0.02)
    assert xray_tensor(prepared, XRaySettings(size=(32, 32), channels=1)).shape == (1, 32, 32)


def test_a_film_that_crops_are_cut_from_is_kept_sharper() -> None:
    waves = np.outer(np.sin(np.linspace(0, 12, 128)), np.cos(np.linspace(0, 9, 96))) / 2 + 0.5
    film = Volume(waves.astype(np.float32), None, "xray", "", Path("film.png"))
    plain, sharp = XRaySettings(size=(32, 32)), XRaySettings(size=(32, 32), detail=2)
    prepared = prepare_xray(film, sharp)
    assert prepared.shape == sharp.kept == (64, 64)
    assert xray_tensor(prepared, sharp, whole=True).shape == (3, 64, 64)
    shrunk, expected = xray_tensor(prepared, sharp), xray_tensor(prepare_xray(film, plain), plain)
    assert shrunk.shape == (3, 32, 32)
    assert float((shrunk - expected).abs().mean()) < 0.1 * float(expected.std())


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 99))
def test_statistics_are_those_of_all_voxels_together(slices: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases = [rng.normal(-600, 300, (n, 3, 3)).astype(np.float16) for n in slices]
    everything = np.concatenate(cases).astype(np.float64)
    assert statistics(cases) == pytest.approx((everything.mean(), everything.std()))
