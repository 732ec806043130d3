"""The site's database: SQLite, each row on the disk (synchronous=FULL) before anything that depends on it leaves."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from crypto.plan import Plan
from crypto.wire import Message

M = TypeVar("M", bound=Message)
Attempt = tuple[str, int, int]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS memory (id INTEGER PRIMARY KEY CHECK (id = 1), lost INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS skipped (study TEXT PRIMARY KEY, round INTEGER NOT NULL, attempt INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS studies (
    study TEXT PRIMARY KEY, recipe TEXT NOT NULL, layout TEXT NOT NULL, scheme TEXT NOT NULL, release TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS minimums (study TEXT PRIMARY KEY, contributors INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS epochs (study TEXT, number INTEGER, record TEXT NOT NULL, PRIMARY KEY (study, number));
CREATE TABLE IF NOT EXISTS peers (
    study TEXT, site TEXT, fingerprint TEXT NOT NULL, approved REAL NOT NULL, PRIMARY KEY (study, site));
CREATE TABLE IF NOT EXISTS departures (study TEXT PRIMARY KEY, left_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS acceptances (
    study TEXT, round INTEGER, attempt INTEGER, plan TEXT NOT NULL UNIQUE, accepted REAL NOT NULL,
    PRIMARY KEY (study, round, attempt));
CREATE TABLE IF NOT EXISTS manifests (
    study TEXT, round INTEGER, attempt INTEGER, signed TEXT NOT NULL, PRIMARY KEY (study, round, attempt),
    FOREIGN KEY (study, round, attempt) REFERENCES acceptances (study, round, attempt));
CREATE TABLE IF NOT EXISTS ballots (
    study TEXT, round INTEGER, attempt INTEGER, ballot TEXT NOT NULL UNIQUE, base_model TEXT NOT NULL,
    contributors TEXT NOT NULL, seen REAL NOT NULL, PRIMARY KEY (study, round, attempt),
    FOREIGN KEY (study, round, attempt) REFERENCES acceptances (study, round, attempt));
CREATE TABLE IF NOT EXISTS votes (ballot TEXT PRIMARY KEY REFERENCES ballots (ballot), signed TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS openings (ballot TEXT PRIMARY KEY REFERENCES ballots (ballot), signed TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS origins (study TEXT PRIMARY KEY, terms TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS exposures (
    study TEXT, round INTEGER, attempt INTEGER, manifest TEXT, site TEXT NOT NULL, fresh INTEGER NOT NULL,
    share REAL NOT NULL, PRIMARY KEY (study, round, attempt, manifest),
    FOREIGN KEY (study, round, attempt) REFERENCES acceptances (study, round, attempt));
CREATE TABLE IF NOT EXISTS spot_checks (
    study TEXT, round INTEGER, attempt INTEGER, plan TEXT NOT NULL, part INTEGER, signed TEXT,
    PRIMARY KEY (study, round, attempt),
    FOREIGN KEY (study, round, attempt) REFERENCES acceptances (study, round, attempt));
CREATE TABLE IF NOT EXISTS heads (study TEXT PRIMARY KEY, round INTEGER NOT NULL, model TEXT NOT NULL, doubt TEXT);
CREATE TABLE IF NOT EXISTS outcomes (ballot TEXT PRIMARY KEY REFERENCES ballots (ballot), signed TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS agreements (study TEXT, model TEXT, PRIMARY KEY (study, model));
CREATE TABLE IF NOT EXISTS refusals (about TEXT, code TEXT, PRIMARY KEY (about, code));
CREATE TABLE IF NOT EXISTS timings (
    study TEXT, round INTEGER, attempt INTEGER, figures TEXT NOT NULL, PRIMARY KEY (study, round, attempt));
"""


class Database:
    """One connection, shared by the agent's threads; a command may read it, and approve peers, meanwhile.

    Args:
        fresh: this is a new site that has not taken part in anything. Otherwise a missing file means that the
            memory was lost, and the site sits out whatever attempt it finds under way in each study.
    """

    def __init__(self, path: Path, *, fresh: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._database = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA foreign_keys = ON")
        self._database.executescript(_SCHEMA)
        self._write("INSERT OR IGNORE INTO memory VALUES (1, ?)", int(not fresh))

    def close(self) -> None:
        with self._lock:
            self._database.close()

    @property
    def lost(self) -> bool:
        """Whether this memory began after the site's life did."""
        return bool(self._one("SELECT lost FROM memory"))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _write(self, statement: str, *values: Any) -> None:
        with self._lock:
            self._database.execute(statement, values)

    def _all(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return list(self._database.execute(query, values))

    def _one(self, query: str, *values: Any) -> Any:
        rows = self._all(query, *values)
        return rows[0][0] if rows else None

    def _message(self, kind: type[M], query: str, *values: Any) -> M | None:
        text = self._one(query, *values)
        return kind.decode(text.encode()) if text is not None else None


def attempt_of(plan: Plan) -> Attempt:
    """Its place in the tables."""
    return str(plan.study), plan.round, plan.attempt


def name_of(plan: Plan) -> str:
    """For people."""
    return f"round {plan.round}, attempt {plan.attempt}"


def text_of(message: Message) -> str:
    """A message as it is kept."""
    return message.encode().decode()
