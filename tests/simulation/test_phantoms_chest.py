"""Phantoms look like the chests they stand for, and follow their seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulation.phantoms import CT_CLASSES, XRAY_CLASSES, Difficulty, Phantom, Scanner, ct_phantom, xray_phantom
from simulation.phantoms.anatomy import build_chest, draw_patient
from simulation.phantoms.geometry import Grid, fill_tubes, smooth_noise
from simulation.phantoms.vessels import grow_tree

QUIET = Scanner("quiet", matrix=64, slice_thickness=12.0, noise=4.0, blur=0.5)
EASY = Difficulty(0.0)
SEEDS = range(6)


@pytest.fixture(scope="module")
def chests() -> dict[str, list[Phantom]]:
    return {label: [ct_phantom(label, QUIET, seed, EASY) for seed in SEEDS] for label in CT_CLASSES}


def lesion_sides(phantom: Phantom) -> tuple[float, float]:
    """Lesion volume on the right and on the left."""
    half = phantom.hu.shape[2] // 2
    return float(phantom.lesions[:, :, :half].sum()), float(phantom.lesions[:, :, half:].sum())


@pytest.mark.parametrize("label", CT_CLASSES)
def test_tissues_have_their_hounsfield_units(chests: dict[str, list[Phantom]], label: str) -> None:
    for phantom in chests[label]:
        healthy_lung = (phantom.lungs > 0.99) & (phantom.lesions < 0.01)
        assert -900 < np.median(phantom.hu[healthy_lung]) < -720
        litres = phantom.lungs.sum() * phantom.grid.voxel_volume / 1e6
        assert 2.0 < litres < 8.0
        assert phantom.hu.dtype == np.float32
        assert phantom.hu.min() >= -1024
        assert 400 < phantom.hu.max() < 1500  # bone
        assert (np.abs(phantom.hu[phantom.lungs < 0.01] - 50) < 25).mean() > 0.1  # muscle, blood, liver
        assert (np.abs(phantom.hu[phantom.lungs < 0.01] + 100) < 25).mean() > 0.02  # fat


def test_healthy_lungs_have_no_lesion_and_others_do(chests: dict[str, list[Phantom]]) -> None:
    assert all(phantom.lesions.max() == 0 for phantom in chests["healthy"])
    for label in CT_CLASSES[1:]:
        for phantom in chests[label]:
            ill = phantom.lesions > 0.5
            assert ill.any()
            assert (phantom.lungs[ill] > 0).all()


def test_covid_is_bilateral_low_and_at_the_back_and_ground_glass(chests: dict[str, list[Phantom]]) -> None:
    for phantom in chests["covid-19"]:
        right, left = lesion_sides(phantom)
        assert min(right, left) > 0.1 * max(right, left)
    lesions = sum(p.lesions.sum(axis=2)[:18] for p in chests["covid-19"])
    lungs = sum(p.lungs.sum(axis=2)[:18] for p in chests["covid-19"])
    share = lesions / np.maximum(lungs, 1)
    assert share[:8].mean() > share[10:].mean()
    assert share[:, 36:46].mean() > share[:, 16:26].mean()


def test_bacterial_is_dense_and_on_one_side(chests: dict[str, list[Phantom]]) -> None:
    for phantom in chests["bacterial"]:
        right, left = lesion_sides(phantom)
        assert max(right, left) > 0.9 * (right + left)
        assert np.percentile(phantom.hu[(phantom.lesions > 0.6) & (phantom.lungs > 0.9)], 75) > -250


def test_other_viral_spreads_further_than_bacterial_but_thinner(chests: dict[str, list[Phantom]]) -> None:
    def extent(label: str) -> float:
        return float(
            np.mean([((p.lesions > 0.1) & (p.lungs > 0.5)).sum() / (p.lungs > 0.5).sum() for p in chests[label]])
        )

    def density(label: str) -> float:
        return float(np.mean([p.hu[(p.lesions > 0.1) & (p.lungs > 0.9)].mean() for p in chests[label]]))

    assert extent("other-viral") > extent("bacterial")
    assert density("other-viral") < density("bacterial")


def test_the_same_seed_gives_the_same_phantom() -> None:
    first, again = (ct_phantom("covid-19", QUIET, 9) for _ in range(2))
    np.testing.assert_array_equal(first.hu, again.hu)
    assert not np.array_equal(first.hu[:10], ct_phantom("covid-19", QUIET, 10).hu[:10])
    np.testing.assert_array_equal(xray_phantom("pneumonia", QUIET, 2), xray_phantom("pneumonia", QUIET, 2))


def test_a_higher_level_makes_disease_milder_and_lungs_less_clean() -> None:
    def burden(level: float) -> float:
        return float(np.mean([ct_phantom("covid-19", QUIET, s, Difficulty(level)).lesions.sum() for s in SEEDS]))

    assert burden(1.0) < 0.8 * burden(0.0)
    rng = np.random.default_rng(0)
    assert sum(Difficulty(1.0).confounders(rng) for _ in range(50)) > 50
    assert sum(Difficulty(0.0).confounders(rng) for _ in range(50)) == 0


def test_scanners_differ_in_noise_offset_and_slices() -> None:
    noisy = ct_phantom("healthy", replace(QUIET, noise=60.0), 3)
    clean = ct_phantom("healthy", QUIET, 3)
    air = clean.hu[:, :3, 28:36]
    assert noisy.hu[:, :3, 28:36].std() > 3 * air.std()
    warm = ct_phantom("healthy", replace(QUIET, offset=40.0), 3)
    inside = clean.lungs > 0.99
    assert (warm.hu - clean.hu)[inside].mean() == pytest.approx(40, abs=0.5)
    assert len(ct_phantom("healthy", replace(QUIET, slice_thickness=6.0), 3).hu) == pytest.approx(
        2 * len(clean.hu), abs=1
    )


@pytest.mark.parametrize("label", XRAY_CLASSES)
def test_films_show_dark_lungs_beside_a_bright_middle(label: str) -> None:
    film = xray_phantom(label, replace(QUIET, matrix=96), 4, EASY)
    height, width = film.shape
    assert film.dtype == np.float32
    assert 0 <= film.min() < film.max() <= 1
    row = slice(int(0.35 * height), int(0.5 * height))
    middle = film[row, width // 2 - 4 : width // 2 + 4].mean()
    lungs = min(film[row, int(f * width) - 4 : int(f * width) + 4].mean() for f in (0.3, 0.72))
    assert lungs < middle - 0.15


def test_disease_shows_on_the_film_as_more_brightness() -> None:
    healthy, ill = (
        np.mean([xray_phantom(c, QUIET, s, EASY)[15:40].mean() for s in SEEDS]) for c in ("normal", "pneumonia")
    )
    assert ill > healthy


def test_unknown_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="known classes: healthy, covid-19"):
        ct_phantom("flu", QUIET, 1)
    with pytest.raises(ValueError, match="known classes: normal, pneumonia"):
        xray_phantom("flu", QUIET, 1)


def test_a_grid_beside_the_chest_is_refused() -> None:
    rng = np.random.default_rng(0)
    beside = Grid((8, 16, 16), (5.0, 5.0, 5.0), (900.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="must cover the chest"):
        build_chest(draw_patient(rng), beside, rng)


def test_tubes_keep_their_volume_on_any_grid() -> None:
    ends = np.array([[20.0, 20.0, 10.0], [20.0, 20.0, 50.0]])
    for step in (1.0, 4.0):
        grid = Grid((int(60 / step),) * 3, (step,) * 3, (0.0, 0.0, 0.0))
        filled = fill_tubes(grid, ends, np.array([-1, 0]), np.array([1.0, 1.0]), np.random.default_rng(0))
        assert filled.sum() * grid.voxel_volume == pytest.approx(np.pi * 40, rel=0.15)


def test_vessels_thicken_towards_the_hilum() -> None:
    rng = np.random.default_rng(1)
    tree = grow_tree(np.zeros(3), rng.normal(40, 15, (60, 3)), 0.8, rng)
    assert tree.radii[0] == pytest.approx(0.8 * np.cbrt(60))
    child = np.flatnonzero(tree.parents >= 0)
    assert (tree.radii[tree.parents[child]] >= tree.radii[child]).all()
    assert np.count_nonzero(tree.parents < 0) == 1


def test_smooth_noise_is_smooth_and_of_unit_scale() -> None:
    grid = Grid((40, 60, 60), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    field = smooth_noise(grid, 50, np.random.default_rng(2))
    assert field.std() == pytest.approx(1, abs=0.25)
    assert np.abs(np.diff(field, axis=1)).mean() < 0.3
