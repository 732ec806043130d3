"""The cache's folder: bounded, least lately used first; whole after a kill; shared by processes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from participant.data.cache_folder import CacheFolder

SIZE = 128 + 2 * 1000  # of a file with a thousand values
ROOT = Path(__file__).parents[2]


def values(number: int) -> np.ndarray:
    return np.full(1000, number, np.float16)


def filled(path: Path, numbers: range) -> None:
    """By a process that ended; the lower the number, the longer ago it was used."""
    folder = CacheFolder(path)
    for number in numbers:
        folder.keep(f"k{number}", values(number))
        os.utime(path / f"k{number}.npy", (time.time() - 10_000 + number,) * 2)


def kept(path: Path) -> set[str]:
    return {file.stem for file in path.glob("*.npy")}


def test_what_was_unused_for_longest_makes_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("participant"), "propagate", True)
    filled(tmp_path, range(8))
    assert CacheFolder(tmp_path).array("k0") is not None, "used again, by another process"
    with caplog.at_level(logging.INFO, "participant"):
        CacheFolder(tmp_path, 8 * SIZE).keep("new", values(9))
    assert kept(tmp_path) == {"new", "k0", *(f"k{number}" for number in range(3, 8))}
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "made room" in caplog.text


def test_nothing_is_removed_while_there_is_room(tmp_path: Path) -> None:
    filled(tmp_path, range(8))
    CacheFolder(tmp_path, 9 * SIZE + 200).keep("new", values(9))
    assert kept(tmp_path) == {"new", *(f"k{number}" for number in range(8))}


def test_what_an_epoch_needs_is_never_removed(tmp_path: Path) -> None:
    filled(tmp_path, range(4))
    folder = CacheFolder(tmp_path, 4 * SIZE)
    assert folder.array("k0") is not None
    for number in range(10, 20):
        folder.keep(f"k{number}", values(number))
    assert kept(tmp_path) == {"k0", "k10", "k11", "k12"}
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 4 * SIZE


def test_a_lower_limit_holds_from_the_next_start(tmp_path: Path) -> None:
    filled(tmp_path, range(20))
    CacheFolder(tmp_path, 5 * SIZE).keep("new", values(9))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 5 * SIZE
    assert "new" in kept(tmp_path)


def test_what_is_mapped_stays_readable_when_it_is_removed(tmp_path: Path) -> None:
    filled(tmp_path, range(1))
    mapped = CacheFolder(tmp_path).array("k0")
    assert mapped is not None
    CacheFolder(tmp_path, SIZE).keep("new", values(9))
    assert kept(tmp_path) == {"new"}
    np.testing.assert_array_equal(mapped, values(0))


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, young = tmp_path / "a.new", tmp_path / "b.new"
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    CacheFolder(tmp_path).keep("k", values(1))
    assert {file.name for file in tmp_path.iterdir()} == {"b.new", "k.npy"}


WRITER = """
import sys
from pathlib import Path
import numpy as np
from participant.data.cache_folder import CacheFolder
folder = CacheFolder(Path(sys.argv[1]), 40_000_000)
print("ready", flush=True)
number = 0
while True:
    number += 1
    folder.keep(f"{sys.argv[2]}-{number % 30}", np.full(1_000_000, number % 30, np.float16))
"""


def test_writers_that_are_killed_leave_only_whole_arrays(tmp_path: Path) -> None:
    """Two at a time, at moments that differ, in a folder that is too small for both."""
    for attempt in range(6):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, name], cwd=ROOT, stdout=subprocess.PIPE)
            for name in ("a", "b")
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        wanted = len(list(tmp_path.glob("*.npy"))) + attempt % 3
        while len(list(tmp_path.iterdir())) < min(wanted, 5):
            assert all(writer.poll() is None for writer in writers)
        for writer in writers:
            writer.kill()
            writer.communicate()
    reader = CacheFolder(tmp_path)
    assert kept(tmp_path)
    for key in kept(tmp_path):
        array = reader.array(key)
        assert array is not None
        np.testing.assert_array_equal(array, np.full(1_000_000, int(key.split("-")[1]), np.float16))
    assert sum(file.stat().st_size for file in tmp_path.glob("*.npy")) <= 2 * 40_000_000
