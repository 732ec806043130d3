"""Transactions that have a name and may be run again.

A transaction that loses to another one, or its connection, is repeated whole, so `fn` must have no effect outside the
session.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session

from coordinator.errors import Busy
from coordinator.store.engines import may_repeat, open_engine

T = TypeVar("T")

ATTEMPTS: Final = 8
PATIENCE_SECONDS: Final = 30.0  # no new try after so long: a caller who is told to come again must not have hung up
CONNECTIONS: Final = 16

log = logging.getLogger(__name__)


class ForeignKeysBroken(Exception):
    """A migration lost rows that others refer to."""


class Store:
    """The database behind `run` (reads and writes), `note` (a small write) and `read`.

    Each raises Busy where others kept it from its turn for too long; nothing of it was done then.

    Args:
        connections: how many a PostgreSQL is asked for at most.
    """

    def __init__(self, url: str, sleep: Callable[[float], None] = time.sleep, connections: int = CONNECTIONS) -> None:
        self.url = url
        self.engine = open_engine(url, connections)
        self._writer = self.engine.execution_options(writes=True)
        self._is_sqlite = self.engine.dialect.name == "sqlite"
        other = {"writes": True} if self._is_sqlite else {"isolation_level": "READ COMMITTED"}
        self._noter = self.engine.execution_options(notes=True, **other)
        self._sleep, self._turn = sleep, threading.Lock()
        self.on_repeat: Callable[[str], object] = lambda name: None  # hears of transactions that are run again

    def run(self, name: str, fn: Callable[[Session], T]) -> T:
        """`fn`'s value, with what it did committed; nothing of it is kept when it raises.

        One at a time, over all processes. Objects stay readable after the commit. `name` stands in the log of a
        repeated transaction.
        """
        return self._in_turn(self._writer, name, fn)

    def note(self, name: str, fn: Callable[[Session], T]) -> T:
        """As `run`, for what every request writes: a power cut may take back the last ones, as no disk is waited for,
        and on PostgreSQL no other writer is.

        Each statement of `fn` sees what was committed when it began, so each has to be right by itself.
        """
        # A writer that meets another one at SQLite sleeps until it looks again: here it is woken.
        return (self._in_turn if self._is_sqlite else self._repeat)(self._noter, name, fn)

    def read(self, name: str, fn: Callable[[Session], T]) -> T:
        """`fn`'s value over one consistent snapshot; it must not write."""
        return self._repeat(self.engine, name, fn)

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """A connection in a writing transaction, for migrations.

        SQLite alters a table by making it anew, and would take rows that refer to it for orphans meanwhile: there,
        foreign keys are checked at the end, all at once.

        Raises:
            ForeignKeysBroken: rows would refer to nothing that did not before; nothing was changed.
        """
        if not self._is_sqlite:
            with self.engine.begin() as connection:  # the table that writers lock may not be there yet
                yield connection
            return
        with self._writer.connect() as connection:
            plain = connection.connection.cursor()
            plain.execute("PRAGMA foreign_keys = OFF")  # which does nothing within a transaction
            try:
                with connection.begin():
                    before = _orphans(connection)
                    yield connection
                    after = _orphans(connection)
                    if len(after) > len(before):
                        raise ForeignKeysBroken(f"rows of {after[-1][0]} would refer to nothing in {after[-1][2]}")
            finally:
                plain.execute("PRAGMA foreign_keys = ON")

    def close(self) -> None:
        self.engine.dispose()

    def _in_turn(self, engine: Engine, name: str, fn: Callable[[Session], T]) -> T:
        # Of each process one waits at the database: more would hold connections, which readers could use meanwhile.
        began = time.monotonic()
        if not self._turn.acquire(timeout=PATIENCE_SECONDS):
            raise _busy("The database is busy.")
        try:
            return self._repeat(engine, name, fn, began)
        finally:
            self._turn.release()

    def _repeat(self, engine: Engine, name: str, fn: Callable[[Session], T], began: float | None = None) -> T:
        began = time.monotonic() if began is None else began
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once(engine, fn)
            except NoConnection as error:
                raise _busy("All connections to the database are in use.") from error
            except _Again as again:
                if attempt == ATTEMPTS or time.monotonic() - began > PATIENCE_SECONDS:
                    raise _busy("The database is busy.") from again
                log.info("transaction %s did not come through, attempt %d", name, attempt)
                self.on_repeat(name)
            self._sleep(random.uniform(0, 0.01 * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    def _once(self, engine: Engine, fn: Callable[[Session], T]) -> T:
        committing = False
        with Session(engine, expire_on_commit=False) as session:
            try:
                value = fn(session)
                session.flush()
                committing = True
                session.commit()
            except DBAPIError as error:
                # Whether a commit came through whose connection broke, nobody knows here.
                if may_repeat(error) or (error.connection_invalidated and not committing):
                    raise _Again from error
                raise
            return value


class _Again(Exception):
    """Nothing of the transaction was kept, and it may come through the next time."""


def _busy(what: str) -> Busy:
    return Busy(f"{what} Nothing was changed: send the same request again.", {"retry_after": 1})


def _orphans(connection: Connection) -> list[Any]:
    """(table, row, table that it refers to, ...) of each row that refers to nothing."""
    return list(connection.exec_driver_sql("PRAGMA foreign_key_check"))
