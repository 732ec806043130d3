"""Blobs on S3 keep what blobs in a folder keep. The S3 is moto's server, not Amazon's: real HTTP through s3fs, with
moto's idea of what S3 answers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from coordinator.clock import FakeClock
from coordinator.housekeeping import AGE_SECONDS, EVERY_SECONDS, sweep
from coordinator.store.blobs import Blobs, model_key, part_key, parts_prefix
from crypto.canonical import sha256

ROUND, SITE = UUID(int=1), UUID(int=2)
KEY = part_key(ROUND, SITE, "body", 0)
LARGE = 11 << 20  # S3 takes several pieces for it, and a reader fetches it in several


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """Options for a bucket named `pleura`."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = pytest.importorskip("moto.server", reason="moto's server is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "their secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        running.start()
        host, port = running.get_host_and_port()
        options = {"endpoint_url": f"http://{host}:{port}", "default_block_size": 5 << 20}
        bucket = Blobs("s3://pleura", options)
        bucket._fs.mkdir("pleura")
        yield options
        running.stop()


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    if request.param == "folder":
        return str(tmp_path / "blobs"), {}
    return f"s3://pleura/{uuid4().hex}", request.getfixturevalue("s3")


@pytest.fixture
def blobs(place: tuple[str, dict[str, Any]]) -> Blobs:
    return Blobs(*place)


def names(blobs: Blobs) -> list[str]:
    return sorted(listed.key for listed in blobs.everything())


@pytest.mark.parametrize("size", [0, 1, LARGE])
def test_what_is_put_can_be_read_whole_and_by_range(blobs: Blobs, size: int) -> None:
    data = os.urandom(size)
    stored = blobs.put_stream(KEY, (data[start : start + 700_000] for start in range(0, size, 700_000)))
    assert (stored.size, stored.sha256) == (size, sha256(data))
    assert blobs.size(KEY) == size
    assert blobs.read(KEY) == data
    assert b"".join(blobs.stream(KEY)) == data
    if size == LARGE:
        assert blobs.read(KEY, 5, 15) == data[5:15]
        assert b"".join(blobs.stream(KEY, 100, LARGE - 100)) == data[100:-100]
        buffer = memoryview(bytearray(LARGE))
        with blobs.open(KEY) as file:
            assert file.readinto(buffer) == LARGE  # type: ignore[attr-defined]
        assert buffer == data


def test_a_second_put_replaces_the_first(blobs: Blobs) -> None:
    blobs.put_bytes(KEY, b"first, and longer")
    blobs.put_bytes(KEY, memoryview(b"second"))
    assert (blobs.read(KEY), blobs.size(KEY)) == (b"second", 6)


@pytest.mark.parametrize("before", [0, LARGE], ids=["at once", "after some was sent"])
def test_a_broken_write_leaves_what_was_there(blobs: Blobs, before: int) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(before)
        raise ConnectionResetError("the site went away")

    with pytest.raises(ConnectionResetError):
        blobs.put_stream(KEY, broken())
    assert not blobs.exists(KEY)
    assert names(blobs) == []
    blobs.put_bytes(KEY, b"whole")
    with pytest.raises(ConnectionResetError):
        blobs.put_stream(KEY, broken())
    assert blobs.read(KEY) == b"whole"
    assert names(blobs) == [KEY]


def test_a_blob_is_seen_once_it_is_whole(blobs: Blobs) -> None:
    with blobs.writer(KEY) as file:
        file.write(bytes(LARGE))
        assert not blobs.exists(KEY)
    assert blobs.size(KEY) == LARGE


def test_what_is_missing_says_so(blobs: Blobs) -> None:
    for call in (blobs.read, blobs.size, blobs.open):
        with pytest.raises(FileNotFoundError):
            call(KEY)
    with pytest.raises(FileNotFoundError):
        next(blobs.stream(KEY))
    blobs.delete(KEY)
    blobs.delete_prefix(parts_prefix(ROUND))


def test_deleting_takes_one_blob_or_a_whole_round(blobs: Blobs) -> None:
    other = part_key(UUID(int=9), SITE, "body", 0)
    keys = [KEY, part_key(ROUND, SITE, "key", 0), part_key(ROUND, UUID(int=3), "body", 7), other]
    for key in keys:
        blobs.put_bytes(key, b"x")
    blobs.delete(keys[1])
    assert [blobs.exists(key) for key in keys] == [True, False, True, True]
    blobs.delete_prefix(parts_prefix(ROUND))
    assert [blobs.exists(key) for key in keys] == [False, False, False, True]


def test_of_writers_of_one_key_one_wins_whole(blobs: Blobs) -> None:
    """As when an agent sends a part again that another replica is still storing."""
    together = threading.Barrier(4)

    def write(letter: bytes) -> bytes:
        with blobs.writer(KEY) as file:
            file.write(letter * LARGE)
            together.wait(60)
        return letter * LARGE

    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(write, [b"a", b"b", b"c", b"d"]))
    assert blobs.read(KEY) in written
    assert names(blobs) == [KEY]


def test_another_replica_sees_what_one_did(place: tuple[str, dict[str, Any]], blobs: Blobs) -> None:
    root, options = place
    other = Blobs(root, {**options, "skip_instance_cache": True})
    assert not other.exists(KEY)
    blobs.put_bytes(KEY, b"here")
    assert (other.size(KEY), names(other)) == (4, [KEY])
    blobs.put_bytes(KEY, b"longer")
    assert other.size(KEY) == 6
    blobs.delete(KEY)
    assert not other.exists(KEY)
    assert names(other) == []


def test_a_round_over_s3(s3: dict[str, Any], new_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world(blobs_url=f"s3://pleura/{uuid4().hex}", blobs_options=s3)
    world.begin()
    for site in world.sites:
        site.contribute()
    world.conduct()
    for site in world.sites:
        site.vote()
    world.conduct()
    (asked,) = world.sites[0].task()["openers"]
    opener = world.site(asked)
    assert opener.send(f"{world.attempt}/opening", opener.opening()).status_code == 204
    world.conduct()
    model = world.sites[0].ok("GET", world.study).json()["model"]
    assert sha256(world.sites[0].ok("GET", f"/v1/models/{model}").content) == model != sha256(world.model)
    assert world.services.blobs.read(model_key(model), 0, 8)
    assert not list(world.services.settings.data_dir.rglob("body-*"))


def test_orphans_go_from_s3_as_well(s3: dict[str, Any], new_world: Any) -> None:
    world = new_world(blobs_url=f"s3://pleura/{uuid4().hex}", blobs_options=s3)
    world.create_study()
    blobs, orphan = world.services.blobs, model_key("ab" * 32)
    blobs.put_bytes(orphan, b"nobody's")
    (listed,) = [each for each in blobs.everything() if each.key == orphan]
    clock = FakeClock(listed.modified + AGE_SECONDS)
    assert sweep(world.services.store, blobs, clock) == 0
    clock.advance(EVERY_SECONDS)
    assert sweep(world.services.store, blobs, clock) == 1
    assert names(blobs) == [model_key(sha256(world.model))]


def test_what_the_store_is_told_is_not_shown(new_world: Any) -> None:
    world = new_world(blobs_url="memory://pleura", blobs_options={"secret": "hunter2"})
    assert "hunter2" not in f"{world.services.settings!r} {world.services.blobs!r} {world.services!r}"
