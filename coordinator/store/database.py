"""One engine, and transactions that have a name and may be run again.

SQLite (WAL) by default, PostgreSQL by URL. Writers take their lock when they begin, so that a transaction which has
read a row can still change it; a transaction that loses to another one is repeated whole, so `fn` must have no
effect outside the session.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

T = TypeVar("T")

ATTEMPTS: Final = 8
BUSY_SECONDS: Final = 10  # how long SQLite itself waits for another writer
_LONG: Final = 4096  # characters
_LONG_KEPT: Final = 16
_RETRYABLE_STATES: Final = frozenset({"40001", "40P01", "55P03"})  # serialization failure, deadlock, lock not available

log = logging.getLogger(__name__)


class ForeignKeysBroken(Exception):
    """A migration lost rows that others refer to."""


class Store:
    """The database behind `run` (reads and writes) and `read`."""

    def __init__(self, url: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.url = url
        self.engine = _engine(url)
        self._writer = self.engine.execution_options(**_writer_options(self.engine))
        self._sleep = sleep

    def run(self, name: str, fn: Callable[[Session], T]) -> T:
        """`fn`'s value, with what it did committed; nothing of it is kept when it raises.

        Objects stay readable after the commit. `name` stands in the log of a repeated transaction.
        """
        return self._repeat(self._writer, name, fn)

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
        if self.engine.dialect.name != "sqlite":
            with self._writer.begin() as connection:
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

    def _repeat(self, engine: Engine, name: str, fn: Callable[[Session], T]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with Session(engine, expire_on_commit=False) as session, session.begin():
                    return fn(session)
            except DBAPIError as error:
                if attempt == ATTEMPTS or not _may_repeat(error):
                    raise
                log.info("transaction %s lost to another one, attempt %d", name, attempt)
            self._sleep(random.uniform(0, 0.01 * 2**attempt))
        raise AssertionError("the last attempt returns or raises")


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS}, json_deserializer=_read_json)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(parsed, pool_pre_ping=True, isolation_level="REPEATABLE READ", json_deserializer=_read_json)


def _read_json(text: str) -> Any:
    """A JSON column's value. Long ones, such as the roster of a plan, are read again with every request: they are
    parsed once and shared, so nobody may change what a row holds in place."""
    return _parse_long(text) if len(text) > _LONG else json.loads(text)


@lru_cache(_LONG_KEPT)
def _parse_long(text: str) -> Any:
    return json.loads(text)


def _writer_options(engine: Engine) -> dict[str, Any]:
    return {"writes": True} if engine.dialect.name == "sqlite" else {"isolation_level": "SERIALIZABLE"}


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin on its own terms; `_begin_sqlite` does it on ours
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _orphans(connection: Connection) -> list[Any]:
    """(table, row, table that it refers to, ...) of each row that refers to nothing."""
    return list(connection.exec_driver_sql("PRAGMA foreign_key_check"))


def _may_repeat(error: DBAPIError) -> bool:
    """Whether the database asks for the transaction to be run again."""
    if getattr(error.orig, "sqlstate", None) in _RETRYABLE_STATES:
        return True
    return getattr(error.orig, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
