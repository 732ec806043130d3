"""The data set: read once, kept atomically, random by seed, epoch and case alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from participant.data.augmentation import Augmentation
from participant.data.cache_folder import CacheFolder
from participant.data.cases import Case, find_cases
from participant.data.dataset import CaseDataset
from participant.data.errors import DataProblems, UnreadableCase
from participant.data.preprocessing import CTSettings, XRaySettings
from simulation.phantoms import CT_CLASSES, XRAY_CLASSES, Scanner, make_hospital

TINY = Scanner("tiny", matrix=24, slice_thickness=14.0)
CT = CTSettings(size=(8, 12, 12))
FILM = XRaySettings(size=(20, 20))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hospital")
    make_hospital(root, {"healthy": 2, "covid-19": 1}, TINY, seed=1)
    return root


@pytest.fixture(scope="module")
def cases(hospital: Path) -> tuple[Case, ...]:
    return find_cases(hospital, CT_CLASSES).cases


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, ...]:
    root = tmp_path_factory.mktemp("films")
    make_hospital(root, {"normal": 2, "pneumonia": 1}, TINY, seed=1, kind="xray")
    return find_cases(root, XRAY_CLASSES).cases


def test_items_have_the_shape_and_scale_that_networks_take(cases, films) -> None:
    inputs, label = CaseDataset(cases, CT)[0]
    assert (inputs.shape, inputs.dtype, label) == ((1, 8, 12, 12), torch.float32, cases[0].label)
    assert -1.3 < inputs.min() < inputs.max() < 2.5
    film, _ = CaseDataset(films, FILM)[1]
    assert film.shape == (3, 20, 20)
    assert CaseDataset(films, FILM).evaluation_inputs(1).shape == (1, 3, 20, 20)
    assert torch.equal(CaseDataset(films, FILM).evaluation_inputs(1)[0], film)
    assert CaseDataset(cases, CT).labels == tuple(case.label for case in cases)


def test_randomness_follows_seed_epoch_and_case(cases) -> None:
    one, two = CaseDataset(cases, CT, seed=4), CaseDataset(cases, CT, seed=4)
    first = [one[i][0] for i in range(3)]
    assert all(torch.equal(first[i], two[i][0]) for i in (2, 0, 1))
    epochs = []
    for epoch in range(12):
        one.set_epoch(epoch)
        epochs.append(one[0][0])
    assert not all(torch.equal(epochs[0], other) for other in epochs)
    assert torch.equal(one.evaluation_inputs(0), two.evaluation_inputs(0))
    assert one.evaluation_inputs(0, subsets=3).shape == (3, 1, 8, 12, 12)


def test_the_cache_spares_a_second_reading(cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    CaseDataset(cases, CT, CacheFolder(tmp_path)).prepare(lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    fresh = CaseDataset(cases, CT)[0][0]
    reads = []
    monkeypatch.setattr("participant.data.cache.read_case", reads.append)
    shallow = CTSettings(size=(4, 12, 12), mean=0.0)  # depth and z-score are not in the key
    again = CaseDataset(cases, shallow, CacheFolder(tmp_path))
    again.prepare()
    assert reads == []
    assert torch.equal(CaseDataset(cases, CT, CacheFolder(tmp_path))[0][0], fresh)


def test_damaged_entries_are_prepared_anew(cases, tmp_path: Path) -> None:
    CaseDataset(cases[:1], CT, CacheFolder(tmp_path)).prepare()
    (entry,) = tmp_path.glob("*.npy")
    whole = entry.read_bytes()
    assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())
    for damage in (b"", whole[: len(whole) // 2], b"nonsense"):
        entry.write_bytes(damage)
        CaseDataset(cases[:1], CT, CacheFolder(tmp_path)).prepare()
        assert entry.read_bytes() == whole


def test_a_failed_write_leaves_nothing_behind(cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(out: object, array: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        CaseDataset(cases[:1], CT, CacheFolder(tmp_path)).prepare()
    assert [file.suffix for file in tmp_path.iterdir()] == [".txt"]


def test_all_unreadable_cases_are_named_at_once(cases, films, tmp_path: Path) -> None:
    torn = [Case(tmp_path / name, 0, name) for name in ("a.png", "b.png")]
    for case in torn:
        case.path.write_bytes(b"torn")
    with pytest.raises(DataProblems) as caught:
        CaseDataset([torn[0], films[0], torn[1]], FILM).prepare()
    assert ["a.png" in caught.value.problems[0], "b.png" in caught.value.problems[1]] == [True, True]
    with pytest.raises(UnreadableCase, match="modality xray"):
        CaseDataset(films, CT)[0]


def test_a_sites_own_statistics_give_mean_zero_and_deviation_one(cases) -> None:
    dataset = CaseDataset(cases, CTSettings(size=(8, 12, 12)))
    dataset.normalise_with(*dataset.statistics())
    mean, std = dataset.settings.mean, dataset.settings.std
    assert -900 < mean < -100
    assert dataset[0][0].mean().abs() < 1
    assert std > 100


def test_augmentation_changes_films_reproducibly_and_spares_the_global_generator(films) -> None:
    plain = CaseDataset(films, FILM)
    changed = CaseDataset(films, FILM, augmentation=Augmentation(flip=True, rotation=10, shift=0.1), seed=3)
    before = torch.get_rng_state()
    first = changed[0][0]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, changed[0][0])
    assert first.shape == plain[0][0].shape
    assert not torch.equal(first, plain[0][0])
    assert torch.equal(changed.evaluation_inputs(0), plain.evaluation_inputs(0))


def test_crops_of_films_are_cut_from_what_is_kept(films, tmp_path: Path) -> None:
    sharp = replace(FILM, detail=2)
    cropped = CaseDataset(films, sharp, CacheFolder(tmp_path), augmentation=Augmentation(crop=0.3), seed=3)
    assert cropped[0][0].shape == cropped.evaluation_inputs(0)[0].shape == (3, 20, 20)
    assert {np.load(file).shape for file in tmp_path.glob("*.npy")} == {(40, 40)}
    plain = CaseDataset(films, FILM, CacheFolder(tmp_path), seed=3)
    assert plain[0][0].shape == (3, 20, 20), "what is kept for another recipe is another file"


def test_a_random_crop_keeps_the_size_and_shows_a_part_of_every_slice_alike() -> None:
    rows = torch.arange(24.0)[:, None].expand(24, 30)
    volume = torch.stack([rows, rows + 100])[None]  # [1, depth 2, height 24, width 30], brighter downwards
    spans = []
    for seed in range(30):
        changed = Augmentation(crop=0.25)(volume, np.random.default_rng(seed))
        assert changed.shape == volume.shape
        torch.testing.assert_close(changed[0, 1], changed[0, 0] + 100)
        spans.append(float(changed[0, 0].max() - changed[0, 0].min()) / 23)
    # a quarter of the area, at 4 to 3, leaves 0.38 of the height at least: bilinear edges take a little more
    assert 0.3 < min(spans) < 0.6
    assert max(spans) <= 1
    assert torch.equal(Augmentation(crop=None)(volume, np.random.default_rng(0)), volume)


def test_flipping_alone_mirrors_left_and_right_in_half_the_inputs(cases) -> None:
    inputs = CaseDataset(cases, CT)[0][0]
    flip = Augmentation(flip=True)
    results = [flip(inputs, np.random.default_rng(seed)) for seed in range(40)]
    mirrored = sum(torch.equal(result, inputs.flip(-1)) for result in results)
    assert mirrored + sum(torch.equal(result, inputs) for result in results) == 40
    assert 8 < mirrored < 32
