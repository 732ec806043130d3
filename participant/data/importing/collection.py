"""The folder that importing fills.

cases/NAME/*.dcm, cases/NAME.dcm, .nii.gz, .png     a case each, named by keyed hash
labels.csv                                          the labelled ones, as `participant.data.cases` reads them
unlabelled.csv                                      the others
.import/                                            what was imported so far, as keyed hashes; what is under way
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

from participant import locks
from participant.data.importing.pseudonyms import Pseudonyms
from participant.files import sync_folder
from participant.settings import ConfigError

CASES: Final = "cases"


@dataclass(frozen=True)
class Row:
    """One case that was imported, or, with a reason, was left out after it had been fetched.

    All but `path`, `files` and `reason` are keyed hashes; "" where the archive does not say.
    path: of the case, relative to the folder. sources: of where it lay, and of the folders above, separated by spaces.
    files: in how many it came.
    """

    name: str
    path: str
    patient: str
    study: str
    series: str
    accession: str
    sources: str
    files: int
    reason: str = ""


_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS salt (id INTEGER PRIMARY KEY CHECK (id = 1), hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS imported (
    name TEXT PRIMARY KEY, path TEXT NOT NULL, patient TEXT NOT NULL, study TEXT NOT NULL, series TEXT NOT NULL,
    accession TEXT NOT NULL, sources TEXT NOT NULL, files INTEGER NOT NULL, reason TEXT NOT NULL);
"""


class Collection:
    """What is in the folder. One process at a time may fill it; its threads may only look at it."""

    def __init__(self, root: Path, database: sqlite3.Connection) -> None:
        self.root, self._database = root, database
        self.rows = {row[0]: Row(*row) for row in database.execute("SELECT * FROM imported")}

    @classmethod
    @contextmanager
    def opened(cls, root: Path, pseudonyms: Pseudonyms) -> Iterator[Collection]:
        """The folder, made if there is none; what an interrupted import had finished is put in its place.

        Raises:
            ConfigError: it holds other things, was filled under another salt, or another import is at work.
        """
        _check_free(root)
        hidden = root / ".import"
        for folder in (root, hidden, hidden / "incoming", root / CASES):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(hidden / "lock", root), closing(sqlite3.connect(hidden / "imported.sqlite")) as database:
            (hidden / "imported.sqlite").chmod(0o600)
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(_SCHEMA)
            _check_salt(database, pseudonyms, root)
            collection = cls(root, database)
            for row in collection.rows.values():
                collection._place(row)
            yield collection

    def staging(self, name: str) -> Path:
        """Where a case's files are gathered until it is complete; what an earlier import left there is still there."""
        return self.root / ".import" / "incoming" / name

    def emptied(self, name: str) -> Path:
        """The same place without what was left there."""
        staged = self.staging(name)
        if staged.is_dir():
            shutil.rmtree(staged)
        staged.unlink(missing_ok=True)
        return staged

    def admit(self, row: Row) -> None:
        """Take in the case whose files, all of them on the disk, are in its staging place.

        The row comes first: killed between the two, the next import finds the case and moves it.
        """
        self._write(row)
        self._place(row)

    def leave_out(self, row: Row) -> None:
        """Remember what was fetched in vain, so that it is not fetched again, and delete it."""
        self._write(row)
        self.emptied(row.name)

    def present(self) -> list[Row]:
        """The cases that are there; whoever deletes a case's files has taken it out for good."""
        return [row for row in self.rows.values() if row.path and (self.root / row.path).exists()]

    def _write(self, row: Row) -> None:
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO imported VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", astuple(row))
        self.rows[row.name] = row

    def _place(self, row: Row) -> None:
        staged = self.staging(row.name)
        if row.path and os.path.lexists(staged):  # it may be a link
            staged.rename(self.root / row.path)
            sync_folder(self.root / CASES)


def _check_free(root: Path) -> None:
    if root.is_dir() and not (root / ".import").is_dir() and any(root.glob("[!.]*")):
        raise ConfigError(
            f"{root} holds other things already, and importing would hide them from training. Name a new folder with "
            "--into, and then as `data` in config.toml."
        )


def _check_salt(database: sqlite3.Connection, pseudonyms: Pseudonyms, root: Path) -> None:
    ours = pseudonyms.of("salt", "salt")
    with database:
        database.execute("INSERT OR IGNORE INTO salt VALUES (1, ?)", (ours,))
    if database.execute("SELECT hash FROM salt").fetchone()[0] != ours:
        raise ConfigError(
            f"{root} was filled with another import.salt: its cases would not be known again. Use the agent's folder "
            "that filled it (--home), restore its import.salt, or import into another folder with --into."
        )


@contextmanager
def _locked(lock: Path, root: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            locks.lock(descriptor, wait=False)
        except BlockingIOError:
            raise ConfigError(f"Another import into {root} is under way. Wait for its end, or end it.") from None
        yield
    finally:
        os.close(descriptor)
