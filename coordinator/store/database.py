"""One engine, and transactions that have a name and may be run again.

SQLite (WAL) by default, PostgreSQL by URL. Writers take their lock when they begin, so that a transaction which has
read a row can still change it; a transaction that loses to another one is repeated whole, so `fn` must have no
effect outside the session.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

T = TypeVar("T")

ATTEMPTS: Final = 8
BUSY_SECONDS: Final = 10  # how long SQLite itself waits for another writer
_RETRYABLE_STATES: Final = frozenset({"40001", "40P01", "55P03"})  # serialization failure, deadlock, lock not available

log = logging.getLogger(__name__)


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

    def writer(self) -> AbstractContextManager[Connection]:
        """A connection in a writing transaction, for migrations."""
        return self._writer.begin()

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
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(parsed, pool_pre_ping=True, isolation_level="REPEATABLE READ")


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


def _may_repeat(error: DBAPIError) -> bool:
    """Whether the database asks for the transaction to be run again."""
    if getattr(error.orig, "sqlstate", None) in _RETRYABLE_STATES:
        return True
    return getattr(error.orig, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
