"""A backup in one file while rounds go on, and a coordinator made of it elsewhere, on a database of either kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Final
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.backup_file import BackupRefused, Manifest, Member, NewBackup, RowsOf, reading, writing
from coordinator.store import audit, references, rows
from coordinator.store.blobs import Blobs, probe_key
from coordinator.store.database import Store
from coordinator.store.references import Referenced
from coordinator.store.tables import Instance
from migrations import current, downgrade, revisions, upgrade

_SNAPSHOTS: Final = 10
_SURE: Final = 3  # that many snapshots in a row lack the same: it is lost
_REST_SECONDS: Final = 1.0  # before the next snapshot, for what is under way


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """All rows of one moment, by table how many and in which file; the blobs that they refer to, and the folders of
    those that may be gone all the same."""

    instance: Instance
    tables: dict[str, tuple[int, IO[bytes]]]
    needed: Referenced
    leftovers: tuple[str, ...]


def write(store: Store, blobs: Blobs, path: Path, now: float, sleep: Callable[[float], None] = time.sleep) -> Manifest:
    """Write a backup that only its owner may read. Nothing is left of one that fails.

    Blobs that rows refer to are deleted as rounds end. So where one is gone before it was copied, the rows are taken
    anew, until all that they refer to has been copied. What three snapshots refer to and none finds is lost.

    Raises:
        BackupRefused: there is such a file.
    """
    if path.exists():
        raise BackupRefused(f"{path} is there already, and backups are not overwritten. Choose another name.")
    revision = current(store.engine) or revisions()[-1]
    copied: dict[str, Member] = {}
    lacking: list[set[str]] = []
    with writing(path) as new, ExitStack() as held:
        for _ in range(_SNAPSHOTS):
            held.close()
            snapshot = held.enter_context(_snapshot(store, new))
            gone = _copy(blobs, snapshot.needed, copied, new)
            missing = {key for key in gone if not key.startswith(snapshot.leftovers)}
            lacking.append(missing)
            if not missing or lacking[-_SURE:] == [missing] * _SURE:
                break
            sleep(_REST_SECONDS)
        manifest = Manifest(
            coordinator=str(snapshot.instance.coordinator),
            made=now,
            version=version("pleura"),
            revision=revision,
            blob_store=str(snapshot.instance.blobs) if snapshot.instance.blobs else None,
            rows=[_add_rows(new, name, number, file) for name, (number, file) in snapshot.tables.items()],
            blobs={key: copied[key] for key in snapshot.needed if key not in gone},
            missing=sorted(missing),
        )
        new.end(manifest)
    return manifest


@contextmanager
def _snapshot(store: Store, new: NewBackup) -> Iterator[_Snapshot]:
    with ExitStack() as files:

        def take(session: Session) -> _Snapshot:
            tables: dict[str, tuple[int, IO[bytes]]] = {}
            for table in rows.tables():
                file = files.enter_context(new.spool())
                tables[table.name] = (rows.dump(session, table, file), file)
            leftovers = tuple(f"{folder}/" for folder in references.leftovers(session))
            return _Snapshot(session.get_one(Instance, 1), tables, references.all_blobs(session), leftovers)

        yield store.read("back up", take)


def _copy(blobs: Blobs, needed: Referenced, copied: dict[str, Member], new: NewBackup) -> set[str]:
    """Copy what was not copied before; returns the keys of what is not there, or is not what the rows say."""
    missing = set()
    for key, digest in needed.items():
        if key in copied and digest in (None, copied[key].sha256):
            continue
        try:
            copied[key] = _copy_one(blobs, key, f"blobs/{key}", new)
        except FileNotFoundError:
            missing.add(key)
        else:
            if digest not in (None, copied[key].sha256):
                missing.add(key)
    return missing


def _copy_one(blobs: Blobs, key: str, name: str, new: NewBackup) -> Member:
    """By way of a file: of a blob that is deleted while it is read, no half must be in the backup."""
    with new.spool() as whole:
        for piece in blobs.stream(key):
            whole.write(piece)
        return new.add(name, whole)


def _add_rows(new: NewBackup, table: str, number: int, file: IO[bytes]) -> RowsOf:
    kinds = next(rows.kinds(each) for each in rows.tables() if each.name == table)
    return RowsOf(table, kinds, number, new.add(f"rows/{table}.jsonl", file))


def restore(url: str, blobs: Blobs, path: Path) -> Manifest:
    """Put a backup into an empty database and an empty blob store, then bring the database up to date.

    Raises:
        BackupRefused: the file is damaged, or of a newer version; or there is something in the place already. Nothing
            was changed.
        AuditBroken: all is restored; the audit log was not whole when it was backed up.
    """
    with reading(path) as backup:
        _check_place(url, blobs)
        backup.check()
        for key, member in backup.manifest.blobs.items():
            blobs.put_stream(key, backup.content(member))
        if backup.manifest.blob_store is not None:
            blobs.put_bytes(probe_key(UUID(backup.manifest.blob_store)), b"")
        downgrade(url, "base")  # tables without rows may be there, and of another revision
        upgrade(url, backup.manifest.revision)
        with _opened(url) as store, store.migrating() as connection:
            for each in backup.manifest.rows:
                rows.load(connection, each.table, each.kinds, backup.lines(each.member))
        upgrade(url)
        with _opened(url) as store:
            store.read("verify audit", audit.verify)
        return backup.manifest


def _check_place(url: str, blobs: Blobs) -> None:
    with _opened(url) as store, store.engine.connect() as connection:
        filled = rows.filled(connection)
    if filled:
        raise BackupRefused(
            f"There are rows in the database already ({', '.join(sorted(filled))}). A backup is restored into a new "
            "one: choose another data_dir or database_url."
        )
    if not blobs.is_empty():
        raise BackupRefused("The blob store is not empty. Choose another data_dir or blobs_url, or clear it first.")


@contextmanager
def _opened(url: str) -> Iterator[Store]:
    store = Store(url)
    try:
        yield store
    finally:
        store.close()
