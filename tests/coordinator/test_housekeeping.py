"""What nobody needs any more goes after a day; what a row refers to, and what is under way, stays."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from rare_blobs import RARE
from sqlalchemy import delete, func, select

from coordinator.clock import FakeClock
from coordinator.housekeeping import AGE_SECONDS, EVERY_SECONDS, Housekeeper, Room, clear_incoming, sweep, usage
from coordinator.store import references
from coordinator.store.blobs import (
    Blobs,
    Listed,
    model_key,
    part_key,
    probe_key,
    sealed_model_key,
    server_state_key,
    study_key,
    sum_key,
)
from coordinator.store.tables import Chore, SeenToken

STUDY, OTHER = UUID(int=1), UUID(int=2)
ORPHANS = [
    part_key(uuid4(), STUDY, "body", 0),
    sum_key(uuid4(), 7),
    model_key("ab" * 32),
    study_key(STUDY, "cd" * 32),
    sealed_model_key(STUDY, "ab" * 32, STUDY, OTHER),
    server_state_key(STUDY, "ef" * 32),
]


def age(blobs: Path, clock: FakeClock, seconds: float) -> None:
    """Have all files written so long ago."""
    for path in [path for path in blobs.rglob("*") if path.is_file()]:
        os.utime(path, (clock.now() - seconds,) * 2)


def names(blobs: Blobs) -> set[str]:
    return {listed.key for listed in blobs.everything()}


@pytest.fixture
def folder(world) -> Path:
    return world.services.settings.blobs


def housekeeper(world) -> Housekeeper:
    return Housekeeper(world.services.store, world.services.blobs, world.services.settings.incoming, world.clock)


def tidy(world) -> int | None:
    return sweep(world.services.store, world.services.blobs, world.clock)


def test_orphans_of_every_kind_go_after_a_day_and_not_before(world, folder) -> None:
    for key in ORPHANS:
        world.services.blobs.put_bytes(key, b"nobody's")
    age(folder, world.clock, AGE_SECONDS - 1)
    assert tidy(world) == 0
    world.clock.advance(EVERY_SECONDS)
    assert tidy(world) == len(ORPHANS)
    assert not names(world.services.blobs) & set(ORPHANS)


def referred(world, folder) -> set[str]:
    """What rows refer to, after a sweep that found no orphan, however old everything is."""
    blobs, store = world.services.blobs, world.services.store
    needed = set(store.read("needed", references.all_blobs))
    there = names(blobs)
    age(folder, world.clock, 10 * AGE_SECONDS)
    store.run("again", lambda s: s.execute(delete(Chore)))
    assert tidy(world) == 0, "in a study that goes well nothing is an orphan"
    assert names(blobs) == there >= needed
    return needed


def test_tokens_of_a_site_that_never_calls_again_are_forgotten_too(world) -> None:
    world.create_study()
    world.join(1)
    used = select(func.count()).select_from(SeenToken)
    assert world.services.store.read("used", lambda s: s.scalar(used)) > 0
    world.clock.advance(EVERY_SECONDS)
    tidy(world)
    assert world.services.store.read("used", lambda s: s.scalar(used)) == 0


def test_nothing_that_a_row_refers_to_is_deleted(world, folder) -> None:
    """At every stage of a round."""

    def kinds() -> set[str]:
        return {key.partition("/")[0] for key in referred(world, folder)}

    world.begin()
    assert kinds() == {"models", "keys"}
    parts, _, _ = world.sites[0].seal()
    assert world.sites[0].put(f"{world.attempt}/parts/0", parts[0]).status_code == 204
    assert kinds() == {"models", "keys", "parts"}
    for site in world.sites:
        site.contribute()
    kinds()
    world.conduct()
    for site in world.sites:
        site.vote()
    world.conduct()
    assert "sums" in kinds()


@pytest.mark.parametrize("kind", RARE)
def test_nor_is_what_only_some_studies_have(world, folder, make_model, kind) -> None:
    prefix = RARE[kind](world, make_model)
    assert any(key.startswith(prefix) for key in referred(world, folder))


def test_a_part_that_waits_for_its_row_stays_while_its_attempt_goes_on(world, folder) -> None:
    """Sent again after the process ended between blob and row: then the blob is older than its row."""
    world.begin()
    row = world.services.store.read("round", references.under_way)[0].removeprefix("parts/")
    key = part_key(UUID(row), world.sites[0].id, "body", 0)
    world.services.blobs.put_bytes(key, b"without a row")
    age(folder, world.clock, 2 * AGE_SECONDS)
    assert tidy(world) == 0
    assert world.services.blobs.exists(key)


def test_a_broken_upload_goes_after_a_day_and_one_under_way_stays(world, folder) -> None:
    blobs = world.services.blobs
    broken = folder / "models" / f".{'ab' * 32}.{uuid4().hex}"
    broken.parent.mkdir()
    broken.write_bytes(b"half")
    age(folder, world.clock, AGE_SECONDS + 1)
    with blobs.writer(model_key("cd" * 32)) as file:
        file.write(b"still coming in")
        file.flush()
        (unfinished,) = [path for path in broken.parent.iterdir() if path != broken]
        os.utime(unfinished, (world.clock.now() - 1,) * 2)
        assert tidy(world) == 1
        assert [path.name for path in broken.parent.iterdir()] == [unfinished.name]
    assert blobs.exists(model_key("cd" * 32))


def test_what_is_written_again_after_it_was_listed_stays(world, folder) -> None:
    blobs = world.services.blobs
    blobs.put_bytes(ORPHANS[2], b"first")
    age(folder, world.clock, 2 * AGE_SECONDS)
    (listed,) = [each for each in blobs.everything() if each.key == ORPHANS[2]]
    blobs.put_bytes(ORPHANS[2], b"again")
    assert not blobs.delete_older(listed)
    assert blobs.read(ORPHANS[2]) == b"again"


def test_one_of_all_replicas_does_it_once_an_hour(world) -> None:
    turns: list[int | None] = []

    def replica() -> None:
        turns.append(tidy(world))

    threads = [threading.Thread(target=replica) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turns, key=str) == [0, None, None, None]
    world.clock.advance(EVERY_SECONDS - 1)
    assert tidy(world) is None
    world.clock.advance(1)
    assert tidy(world) == 0


def test_what_broke_off_on_its_way_in_goes_after_a_day(tmp_path) -> None:
    clock = FakeClock()
    for name, seconds in (("old", AGE_SECONDS + 1), ("new", AGE_SECONDS - 1)):
        (tmp_path / name).write_bytes(b"half a model")
        os.utime(tmp_path / name, (clock.now() - seconds,) * 2)
    clear_incoming(tmp_path, clock)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_an_upload_that_ends_while_it_is_looked_at_holds_nothing_up(tmp_path, monkeypatch) -> None:
    clock, is_file = FakeClock(), Path.is_file
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(b"half a model")
        os.utime(tmp_path / name, (clock.now() - AGE_SECONDS - 1,) * 2)
    gone: list[Path] = []

    def ends(self: Path) -> bool:
        found = is_file(self)
        if not gone:
            gone.append(self)
            self.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", ends)
    clear_incoming(tmp_path, clock)
    assert gone
    assert list(tmp_path.iterdir()) == []


def test_usage_is_by_kind(tmp_path) -> None:
    blobs = Blobs(tmp_path)
    blobs.put_bytes(sum_key(STUDY, 0), bytes(5))
    blobs.put_bytes(sum_key(STUDY, 1), bytes(6))
    blobs.put_bytes(model_key("ab"), bytes(7))
    blobs.put_bytes(probe_key(STUDY), b"")
    found = usage(blobs)
    assert (found.kinds["sums"], found.kinds["models"], found.kinds["parts"]) == (Room(2, 11), Room(1, 7), Room(0, 0))
    assert set(found.kinds) == {"parts", "sums", "models", "keys", "sealed", "server"}
    assert found.free is not None
    assert found.free > 0


def test_the_housekeeper_works_by_itself_and_ends_when_told(world, folder) -> None:
    world.services.blobs.put_bytes(ORPHANS[0], b"nobody's")
    age(folder, world.clock, 2 * AGE_SECONDS)
    keeper = housekeeper(world)
    free_bytes, found = world.services.blobs.free_bytes, threading.Event()

    def watched() -> int | None:
        found.set()
        return free_bytes()

    world.services.blobs.free_bytes = watched
    keeper.start()
    assert found.wait(30)
    keeper.stop()
    assert keeper.usage is not None
    assert not world.services.blobs.exists(ORPHANS[0])
    assert all(thread.name != "housekeeper" for thread in threading.enumerate())


def test_a_housekeeper_without_a_folder_for_uploads_sweeps_all_the_same(world, folder) -> None:
    keeper = housekeeper(world)
    world.services.settings.incoming.rmdir()
    world.services.blobs.put_bytes(ORPHANS[0], b"nobody's")
    age(folder, world.clock, 2 * AGE_SECONDS)
    keeper.tidy()
    assert not world.services.blobs.exists(ORPHANS[0])
    assert keeper.usage is not None


def test_a_housekeeper_that_is_told_to_end_leaves_the_rest_for_the_next_time(world, folder, monkeypatch) -> None:
    for key in ORPHANS:
        world.services.blobs.put_bytes(key, b"nobody's")
    age(folder, world.clock, 2 * AGE_SECONDS)
    keeper, delete_older = housekeeper(world), world.services.blobs.delete_older

    def told_meanwhile(listed: Listed) -> bool:
        keeper.stop()
        return delete_older(listed)

    monkeypatch.setattr(world.services.blobs, "delete_older", told_meanwhile)
    keeper.tidy()
    assert len(names(world.services.blobs) & set(ORPHANS)) == len(ORPHANS) - 1
    assert keeper.usage is None
    world.clock.advance(EVERY_SECONDS)
    assert tidy(world) == len(ORPHANS) - 1


def test_a_housekeeper_in_trouble_says_so_and_goes_on(world, caplog, monkeypatch) -> None:
    keeper = housekeeper(world)

    def away() -> None:
        raise ConnectionError("the object store is away")

    monkeypatch.setattr(world.services.blobs, "everything", away)
    keeper.tidy()
    assert "housekeeping failed" in caplog.text
    monkeypatch.undo()
    keeper.tidy()
    assert keeper.usage is None, "not before the hour is over"
    world.clock.advance(EVERY_SECONDS)
    keeper.tidy()
    assert keeper.usage is not None
