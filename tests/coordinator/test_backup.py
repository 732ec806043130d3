"""A coordinator restored from a backup goes on where that one was, on a database of either kind."""

from __future__ import annotations

import copy
import json
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from rare_blobs import RARE
from sqlalchemy import select

from coordinator import backup
from coordinator.app import create_app, open_services
from coordinator.backup_file import BackupRefused, Manifest, RowsOf, writing
from coordinator.conductor import LEASE_SECONDS, Conductor
from coordinator.housekeeping import AGE_SECONDS
from coordinator.outbound import Outbound
from coordinator.settings import Settings
from coordinator.store import audit, references, rows
from coordinator.store.audit import AuditBroken
from coordinator.store.blobs import Blobs, model_key, parts_prefix
from coordinator.store.database import Store
from coordinator.store.instance import check_blobs
from coordinator.store.tables import Audit, Base, Round
from coordinator.webhooks import Courier
from crypto.canonical import sha256
from migrations import current, revisions, upgrade


@pytest.fixture
def empty(tmp_path: Path) -> tuple[str, Blobs]:
    """A database without tables, and a blob store, elsewhere."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return f"sqlite:///{folder}/c.db", Blobs(folder / "blobs")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pleura.tar"


def save(world: Any, file: Path, sleep: Callable[[float], None] = lambda _: None) -> Any:
    return backup.write(world.services.store, world.services.blobs, file, world.clock.now(), sleep)


def move(world: Any, url: str, folder: Path) -> Any:
    """The same hospitals, calling a coordinator on another database."""
    moved = copy.copy(world)
    moved.services = open_services(Settings(data_dir=folder, database_url=url, poll_seconds=0.01), world.clock)
    moved.app = create_app(moved.services)
    transport = httpx.ASGITransport(moved.app, raise_app_exceptions=False)
    moved._client = httpx.AsyncClient(transport=transport, base_url="http://coordinator")
    moved.conductor = Conductor(moved.services.store, moved.services.blobs, world.clock)
    moved.sites = [copy.copy(site) for site in world.sites]
    for site in moved.sites:
        site.world = moved
    return moved


def finish(world: Any) -> str:
    """The digest of the model that the attempt under way makes."""
    world.conduct()
    for site in world.sites:
        assert site.vote().status_code == 204
    world.conduct()
    (asked,) = world.sites[0].task()["openers"]
    opener = world.site(asked)
    assert opener.send(f"{world.attempt}/opening", opener.opening()).status_code == 204
    world.conduct()
    found = world.sites[0].ok("GET", world.study).json()["model"]
    assert sha256(world.sites[0].ok("GET", f"/v1/models/{found}").content) == found != sha256(world.model)
    return str(found)


def everything(store: Store) -> dict[str, list[Any]]:
    def look(session: Any) -> dict[str, list[Any]]:
        return {
            table.name: sorted((tuple(row) for row in session.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }

    return store.read("everything", look)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_round_is_finished_by_the_restored_one_with_the_same_model(world, empty, file, request, kind) -> None:
    world.begin()
    for site in world.sites:
        site.contribute()
    save(world, file)
    assert file.stat().st_mode & 0o777 == 0o600
    url = empty[0] if kind == "sqlite" else request.getfixturevalue("postgres_database")
    backup.restore(url, empty[1], file)
    restored = move(world, url, file.with_name("elsewhere"))
    assert restored.services.coordinator == world.services.coordinator
    assert everything(restored.services.store) == everything(world.services.store)
    assert finish(restored) == finish(world)
    assert restored.services.store.read("verify", audit.verify) > 0
    restored.services.store.close()


@pytest.mark.parametrize("stage", ["half an upload", "shown", "between rounds"])
def test_at_every_stage_it_can_be_taken_and_used(world, empty, file, stage) -> None:
    world.begin()
    first = world.sites[0]
    if stage == "half an upload":
        assert first.put(f"{world.attempt}/parts/0", first.seal()[0][0]).status_code == 204
    else:
        for site in world.sites:
            site.contribute()
        world.conduct()
    if stage == "between rounds":
        finish(world)
    manifest = save(world, file)
    assert manifest.missing == []
    url, blobs = empty
    backup.restore(url, blobs, file)
    restored = move(world, url, file.with_name("elsewhere"))
    if stage == "half an upload":
        assert first.put(f"{restored.attempt}/parts/0", first.seal()[0][0]).status_code == 204
        for site in restored.sites:
            site.contribute()
    if stage == "between rounds":
        for site in restored.sites:
            site.contribution = None
            site.contribute()
    finish(restored)
    restored.services.store.close()


@pytest.mark.parametrize("kind", RARE)
def test_blobs_of_every_kind_are_in_it(world, empty, file, make_model, kind) -> None:
    prefix = RARE[kind](world, make_model)
    manifest = save(world, file)
    assert manifest.missing == []
    url, blobs = empty
    backup.restore(url, blobs, file)
    there = {listed.key: world.services.blobs.read(listed.key) for listed in world.services.blobs.everything()}
    assert any(key.startswith(prefix) for key in there)
    assert {listed.key: blobs.read(listed.key) for listed in blobs.everything()} == there


def test_a_round_that_ends_while_it_is_copied_is_taken_anew(world, empty, file, monkeypatch) -> None:
    """Its parts are swept after the rows were read: the rows of then are of no use."""
    world.begin()
    for site in world.sites:
        site.contribute()
    world.conduct()
    stream, ended = Blobs.stream, []

    def end_meanwhile(self: Blobs, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        if not ended:
            ended.append(True)
            finish(world)
            world.clock.advance(AGE_SECONDS)
            world.conduct()
            assert not self.exists(parts_prefix(round_of(world).id))
        return stream(self, key, start, end)

    monkeypatch.setattr(Blobs, "stream", end_meanwhile)
    manifest = save(world, file)
    assert ended
    assert manifest.missing == []
    url, blobs = empty
    backup.restore(url, blobs, file)
    store = Store(url)
    assert set(store.read("needed", references.all_blobs)) == set(manifest.blobs)
    assert all(map(blobs.exists, manifest.blobs))
    store.close()


def test_what_an_attempt_leaves_behind_is_not_missing(world, empty, file, monkeypatch) -> None:
    """The conductor deletes folders first and their rows after it: whoever looks in between misses nothing."""
    world.begin()
    for site in world.sites:
        site.contribute()
    world.conduct()
    made: list[Manifest] = []
    delete_prefix = Blobs.delete_prefix

    def look_behind(self: Blobs, prefix: str) -> None:
        delete_prefix(self, prefix)
        if not made:
            made.append(save(world, file))

    monkeypatch.setattr(Blobs, "delete_prefix", look_behind)
    finish(world)
    assert made[0].missing == []
    url, blobs = empty
    backup.restore(url, blobs, file)
    restored = move(world, url, file.with_name("elsewhere"))
    world.clock.advance(LEASE_SECONDS)
    restored.conduct()
    assert round_of(restored).swept is not None
    assert not any(key.startswith("parts/") for key in restored.services.store.read("needed", references.all_blobs))
    restored.services.store.close()


def test_what_comes_a_moment_later_is_waited_for(world, file) -> None:
    """What was away twice is back while the backup rests for the second time."""
    world.begin()
    key = model_key(sha256(world.model))
    world.services.blobs.delete(key)
    rests: list[float] = []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 2:
            world.services.blobs.put_bytes(key, world.model)

    assert save(world, file, rest).missing == []
    assert len(rests) == 2
    assert min(rests) > 0


def round_of(world: Any) -> Round:
    return world.services.store.read("round", lambda s: s.scalars(select(Round).order_by(Round.number)).first())


def test_what_is_lost_is_listed_and_the_rest_is_saved(world, empty, file) -> None:
    world.begin()
    key = model_key(sha256(world.model))
    world.services.blobs.put_bytes(key, b"another content")
    rests: list[float] = []
    assert save(world, file, rests.append).missing == [key]
    assert len(rests) == 2, "the third look decides"
    url, blobs = empty
    assert backup.restore(url, blobs, file).missing == [key]
    assert not blobs.exists(key)


def test_it_is_restored_into_nothing_else(world, empty, file) -> None:
    world.begin()
    save(world, file)
    url, blobs = empty
    with pytest.raises(BackupRefused, match="rows in the database already"):
        backup.restore(world.services.store.url, blobs, file)
    blobs.put_bytes(model_key("ab"), b"somebody's")
    with pytest.raises(BackupRefused, match="blob store is not empty"):
        backup.restore(url, blobs, file)
    blobs.delete(model_key("ab"))
    upgrade(url)
    open_services(Settings(data_dir=file.with_name("elsewhere"), database_url=url)).store.close()
    backup.restore(url, blobs, file)  # tables alone, as a first start makes them, are no hindrance
    store = Store(url)
    assert everything(store) == everything(world.services.store)
    store.close()


def test_a_backup_is_not_overwritten_and_a_failed_one_leaves_nothing(world, file, monkeypatch) -> None:
    world.begin()
    save(world, file)
    with pytest.raises(BackupRefused, match="not overwritten"):
        save(world, file)
    before = sorted(file.parent.iterdir())

    def away(*_: object) -> None:
        raise ConnectionError("the object store is away")

    monkeypatch.setattr(Blobs, "stream", away)
    with pytest.raises(ConnectionError):
        save(world, file.with_name("second.tar"))
    assert sorted(file.parent.iterdir()) == before


def test_nothing_lies_in_the_temporary_folder_meanwhile(world, file, monkeypatch) -> None:
    """Where that is memory, as in containers, a large model would fill it."""
    world.begin()
    monkeypatch.setattr("tempfile.tempdir", str(file.parent / "absent"))
    assert save(world, file).missing == []


def altered(file: Path, change: Any) -> Path:
    """The backup with other contents: `change` takes a member's name and content and gives another, or None."""
    other = file.with_name("altered.tar")
    with tarfile.open(file) as before, tarfile.open(other, "w") as after:
        for member in before:
            content = change(member.name, before.extractfile(member).read())
            if content is not None:
                member.size = len(content)
                after.addfile(member, BytesIO(content))
    return other


def in_manifest(**changes: Any) -> Any:
    def change(name: str, content: bytes) -> bytes:
        return json.dumps({**json.loads(content), **changes}).encode() if name == "manifest.json" else content

    return change


DAMAGE = {
    "has no file manifest.json": lambda name, content: None if name == "manifest.json" else content,
    "has no file blobs/models": lambda name, content: None if name.startswith("blobs/models") else content,
    r"damaged: blobs/models": lambda name, content: content[::-1] if name.startswith("blobs/models") else content,
    r"damaged: rows/audit": lambda name, content: content[:-2] if name == "rows/audit.jsonl" else content,
    "another format": in_manifest(format="pleura/backup/v9"),
    "newer than that of": in_manifest(revision="9999"),
    "manifest cannot be read": in_manifest(rows=3),
}


def test_a_damaged_backup_changes_nothing(world, empty, file) -> None:
    world.begin()
    save(world, file)
    url, blobs = empty
    for words, change in DAMAGE.items():
        with pytest.raises(BackupRefused, match=words):
            backup.restore(url, blobs, altered(file, change))
        assert list(blobs.everything()) == []
    store = Store(url)
    assert current(store.engine) is None
    store.close()


def test_half_a_file_is_no_backup(world, empty, file) -> None:
    world.begin()
    save(world, file)
    file.write_bytes(file.read_bytes()[:-40_000])
    with pytest.raises(BackupRefused):
        backup.restore(*empty, file)


def test_an_altered_audit_log_is_found(world, empty, file) -> None:
    world.begin()
    world.services.store.run("alter", lambda s: setattr(s.get_one(Audit, 1), "actor", "nobody"))
    save(world, file)
    with pytest.raises(AuditBroken, match="row 1"):
        backup.restore(*empty, file)


def test_one_of_an_older_revision_is_brought_up_to_date(empty, file) -> None:
    """Rows are put in as that revision had them, and then migrated."""
    identity = UUID(int=7)
    with writing(file) as new:
        member = new.add("rows/instance.jsonl", BytesIO(json.dumps([1, str(identity)]).encode()))
        table = RowsOf("instance", {"id": "plain", "coordinator": "uuid"}, 1, member)
        new.end(Manifest(str(identity), 0.0, "0.1.0", revisions()[0], None, [table], {}, []))
    url, blobs = empty
    backup.restore(url, blobs, file)
    services = open_services(Settings(data_dir=file.with_name("elsewhere"), database_url=url))
    assert services.coordinator == identity
    assert current(services.store.engine) == revisions()[-1]
    services.store.close()


def test_database_and_blobs_belong_together_after_it(world, empty, file) -> None:
    world.begin()
    check_blobs(world.services.store, world.services.blobs)
    save(world, file)
    url, blobs = empty
    backup.restore(url, blobs, file)
    store = Store(url)
    check_blobs(store, blobs)
    store.close()


class Told(Outbound):
    """Keeps what is told, as the receiver of all webhooks."""

    def __init__(self, ids: dict[str, dict[str, Any]]) -> None:
        object.__setattr__(self, "ids", ids)

    def post(self, url: str, headers: Any, body: bytes) -> int:
        self.ids.setdefault(headers["webhook-id"], json.loads(body))
        return 204


def test_a_restored_one_tells_other_events_by_other_ids(world, empty, file) -> None:
    """Both go on from the same row of the log; what waited at the backup is told by both, by the same id."""
    assert world.operate("POST", "/v1/webhooks", json={"url": "https://hooks.example.org/"}).status_code == 201
    world.begin()
    world.clock.advance(3601)
    world.conduct()
    save(world, file)
    url, blobs = empty
    backup.restore(url, blobs, file)
    restored = move(world, url, file.with_name("elsewhere"))
    assert world.operate("POST", f"{world.study}/pause").status_code == 200
    assert restored.operate("POST", f"{restored.study}/stop").status_code == 200
    told: dict[str, dict[str, Any]] = {}
    for services in (world.services, restored.services):
        courier = Courier(services.store, world.clock, Told(told))
        while courier.deliver_once():
            pass
    assert sorted(each["event"] for each in told.values()) == ["round.failed", "study.paused", "study.stopped"]
    restored.services.store.close()


def test_every_column_has_a_form() -> None:
    """A table that comes later, with a type that no backup knows, is found here."""
    for table in rows.tables():
        assert set(rows.kinds(table).values()) <= {"uuid", "json", "plain"}
