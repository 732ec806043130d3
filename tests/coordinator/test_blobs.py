"""Blobs appear whole or not at all, on a folder and on an object store."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from coordinator.errors import DiskFull
from coordinator.store import blobs as module
from coordinator.store.blobs import Blobs, model_key, part_key, parts_prefix, study_key, sum_key, sums_prefix

ROUND, SITE = UUID(int=1), UUID(int=2)
KEY = part_key(ROUND, SITE, "body", 0)


@pytest.fixture(params=["folder", "object store"])
def blobs(request, tmp_path) -> Blobs:
    return Blobs(tmp_path / "blobs" if request.param == "folder" else f"memory://{uuid4().hex}")


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_what_is_put_can_be_read_whole_and_by_range(blobs: Blobs) -> None:
    data = bytes(range(256)) * 20_000
    stored = blobs.put_stream(KEY, (data[start : start + 70_000] for start in range(0, len(data), 70_000)))
    assert (stored.size, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert blobs.size(KEY) == len(data)
    assert blobs.read(KEY) == data
    assert blobs.read(KEY, 5, 15) == data[5:15]
    assert b"".join(blobs.stream(KEY)) == data
    assert b"".join(blobs.stream(KEY, 100, 2_000_000)) == data[100:2_000_000]
    with blobs.open(KEY) as file:
        file.seek(1000)
        assert file.read(3) == data[1000:1003]


def test_a_second_put_replaces_the_first(blobs: Blobs) -> None:
    blobs.put_bytes(KEY, b"first, and longer")
    blobs.put_bytes(KEY, memoryview(b"second"))
    assert blobs.read(KEY) == b"second"


def test_a_broken_stream_leaves_what_was_there(tmp_path) -> None:
    blobs = Blobs(tmp_path)  # fsspec's memory store commits when a file is opened, so it cannot show this

    def broken():
        yield b"half"
        raise ConnectionResetError("the site went away")

    with pytest.raises(ConnectionResetError):
        blobs.put_stream(KEY, broken())
    assert not blobs.exists(KEY)
    blobs.put_bytes(KEY, b"whole")
    with pytest.raises(ConnectionResetError):
        blobs.put_stream(KEY, broken())
    assert blobs.read(KEY) == b"whole"
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("moment", ["write", "fsync", "rename"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, code, moment) -> None:
    blobs = Blobs(tmp_path)

    def full(*_: object) -> None:
        raise OSError(code, "no room")

    def chunks():
        yield b"some"
        if moment == "write":
            full()
        yield b"more"

    if moment == "fsync":
        monkeypatch.setattr(module.os, "fsync", full)
    if moment == "rename":
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DiskFull, match="Nothing was lost"):
        blobs.put_stream(KEY, chunks())
    assert files(tmp_path) == []
    monkeypatch.undo()
    blobs.put_bytes(KEY, b"later")
    assert blobs.read(KEY) == b"later"


def test_other_errors_pass_as_they_are(tmp_path, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "bad sector")

    monkeypatch.setattr(module.os, "fsync", broken)
    with pytest.raises(OSError, match="bad sector"):
        Blobs(tmp_path).put_bytes(KEY, b"x")
    assert files(tmp_path) == []


@pytest.mark.parametrize("key", ["models/../../etc/passwd", "/models/x", "models", "models//x", "models/", "MODELS/x"])
def test_keys_stay_below_the_root(tmp_path, key) -> None:
    with pytest.raises(ValueError, match="no key of a blob"):
        Blobs(tmp_path).put_bytes(key, b"x")


def test_keys_are_as_documented() -> None:
    assert part_key(ROUND, SITE, "key", 3) == f"parts/{ROUND}/{SITE}/key-3"
    assert part_key(ROUND, SITE, "body", 0).startswith(parts_prefix(ROUND) + "/")
    assert sum_key(ROUND, 3) == f"sums/{ROUND}/3" == f"{sums_prefix(ROUND)}/3"
    assert model_key("ab") == "models/ab"
    assert study_key(ROUND, "ab") == f"keys/{ROUND}/ab"
