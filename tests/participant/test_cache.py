"""Prepared cases on disk: found by content and settings, and prepared anew when either changes."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import small_volumes as small

from participant.case_data import CaseData
from participant.data import cache
from participant.data.cache import PreparedCases
from participant.data.cache_folder import CacheFolder
from participant.data.errors import UnreadableCase
from participant.data.preprocessing import CTSettings

CT = CTSettings(size=(4, 8, 8))


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return written(tmp_path / "cases" / "a.nii.gz")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every reading of a case, as it happens."""
    seen: list[Path] = []
    read = cache.read_case
    monkeypatch.setattr(cache, "read_case", lambda path: seen.append(path) or read(path))
    return seen


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file whose content is read to tell whether it changed."""
    seen: list[str] = []
    digest = cache.hashlib.file_digest
    monkeypatch.setattr(cache.hashlib, "file_digest", lambda file, by: seen.append(file.name) or digest(file, by))
    return seen


def written(path: Path, level: float = -500) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(1).normal(level, 50, (16, 16, 12)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    return path


def got(case: Path, folder: Path, settings: CTSettings = CT) -> np.ndarray:
    """As a new process would get it."""
    return np.asarray(PreparedCases(settings, CacheFolder(folder)).get(case))


def test_what_is_kept_is_mapped_and_read_once(case: Path, tmp_path: Path, reads: list[Path], hashed: list[str]) -> None:
    first = got(case, tmp_path / "cache")
    kept = PreparedCases(CT, CacheFolder(tmp_path / "cache")).get(case)
    assert isinstance(kept, np.memmap)
    np.testing.assert_array_equal(kept, first)
    assert (reads, hashed) == ([case], [str(case)]), "neither prepared nor hashed a second time"


def test_a_changed_file_is_prepared_anew_though_its_size_is_the_same(case: Path, tmp_path: Path) -> None:
    plain = case.with_name("a.nii")
    before = got(written(plain, -500), tmp_path / "cache")
    size = plain.stat().st_size
    after = got(written(plain, -300), tmp_path / "cache")
    assert plain.stat().st_size == size
    assert after.mean() > before.mean() + 100


def test_a_file_that_was_only_touched_or_moved_is_not_prepared_again(
    case: Path, tmp_path: Path, reads: list[Path], hashed: list[str]
) -> None:
    first = got(case, tmp_path / "cache")
    os.utime(case, ns=(1, 1))
    np.testing.assert_array_equal(got(case, tmp_path / "cache"), first)
    moved = case.parent.rename(tmp_path / "elsewhere") / case.name
    np.testing.assert_array_equal(got(moved, tmp_path / "cache"), first)
    assert len(reads) == 1
    assert len(hashed) == 3


def test_a_slice_that_is_added_changes_the_series(case: Path, tmp_path: Path, reads: list[Path]) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    shutil.copy(case, folder)
    with pytest.raises(UnreadableCase, match="holds no DICOM slice"):
        got(folder, tmp_path / "cache")
    (folder / "notes.txt").write_text("a file more")
    with pytest.raises(UnreadableCase, match="holds no DICOM slice"):
        got(folder, tmp_path / "cache")
    assert len({note.name for note in (tmp_path / "cache").glob("*.txt")}) == 2


@pytest.mark.parametrize(
    ("other", "again"),
    [
        (CTSettings(size=(4, 10, 8)), True),
        (CTSettings(size=(4, 8, 8), hu_window=(-1000, 0)), True),
        (CTSettings(size=(8, 8, 8), mean=0.0, std=1.0, steps=(1,), steps_up_to=()), False),
    ],
)
def test_only_settings_that_shape_what_is_kept_count(
    case: Path, tmp_path: Path, reads: list[Path], other: CTSettings, again: bool
) -> None:
    got(case, tmp_path / "cache")
    got(case, tmp_path / "cache", other)
    assert len(reads) == 1 + again


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = cache.read_case

    def overwritten(path: Path) -> object:
        volume = read(path)
        written(path, -300)
        return volume

    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_case", overwritten)
        got(case, tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*.npy")) == []
    assert got(case, tmp_path / "cache").mean() > -400


def test_a_case_that_is_gone_is_named(case: Path, tmp_path: Path) -> None:
    case.unlink()
    with pytest.raises(UnreadableCase, match=r"cannot be opened \(No such file"):
        got(case, tmp_path / "cache")


def test_no_name_of_a_file_is_told_by_the_folder(tmp_path: Path) -> None:
    got(written(tmp_path / "MILLER^ANNA.nii.gz"), tmp_path / "cache")
    told = b"".join(name.name.encode() + name.read_bytes() for name in (tmp_path / "cache").iterdir())
    assert b"MILLER" not in told


def test_a_site_trains_with_a_cache_that_is_too_small_and_says_so(
    tmp_path: Path, reads: list[Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("participant"), "propagate", True)
    site, one_case = small.write_site(tmp_path / "site", (4, 4, 4)), 12 * 16 * 16 * 2
    limit = 6 * (one_case + 128) + 12 * 64
    data = CaseData.read(small.recipe(), site, tmp_path / "cache", seed=0, cache_limit=limit)
    kept = list((tmp_path / "cache" / "cases").glob("*.npy"))
    assert len(kept) == 6
    assert sum("raise cache_gb" in record.message for record in caplog.records) == 1, "once, not for every case"
    reads.clear()
    for split in (data.training, data.validation, data.test):
        for number in range(len(split)):
            assert split[number][0].shape == (1, 8, 16, 16)
    assert len(reads) == 6, "those that were kept stay, and only the others are read again"
    assert sorted((tmp_path / "cache" / "cases").glob("*.npy")) == sorted(kept)
