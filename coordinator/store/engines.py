"""What the two kinds of database need told: SQLite (WAL), and PostgreSQL through psycopg.

Either has one writer at a time. SQLite knows no other way; on PostgreSQL a writer locks a table of one row before its
snapshot is taken, so it sees what the one before it did and never loses to it. Optimistic writers would be repeated
instead, all of them, as every change appends to one chain of audit rows.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

BUSY_SECONDS: Final = 10  # how long a writer waits for another one before it is told so, and begins again
IDLE_SECONDS: Final = 30  # a transaction that does nothing for so long lost its process: the server ends it
_LONG: Final = 4096  # characters
_LONG_KEPT: Final = 16
_RETRYABLE_STATES: Final = frozenset({"40001", "40P01", "55P03"})  # serialization failure, deadlock, lock not available


def open_engine(url: str, connections: int) -> Engine:
    """An engine whose connections, at most so many at a time, begin as `writes` in their execution options says."""
    parsed = make_url(url)
    pool: dict[str, Any] = {"pool_size": connections, "max_overflow": 0, "pool_timeout": BUSY_SECONDS}
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS}, json_deserializer=_read_json, **pool)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = create_engine(
        parsed,
        pool_pre_ping=True,
        isolation_level="REPEATABLE READ",
        connect_args=_postgres_arguments(parsed),
        json_deserializer=_read_json,
        **pool,
    )
    event.listen(engine, "begin", _begin_postgres)
    return engine


def may_repeat(error: DBAPIError) -> bool:
    """Whether the database asks for the transaction to be run again."""
    if getattr(error.orig, "sqlstate", None) in _RETRYABLE_STATES:
        return True
    return getattr(error.orig, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _postgres_arguments(url: URL) -> dict[str, Any]:
    """Nothing may hang for ever where a cable was pulled: neither a connection nor a lock. What the URL says counts."""
    timeouts = f"-c lock_timeout={BUSY_SECONDS}s -c idle_in_transaction_session_timeout={IDLE_SECONDS}s"
    ours = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
    given = " ".join(url.normalized_query.get("options", ()))  # comes last, and the last of two settings counts
    return {key: value for key, value in ours.items() if key not in url.query} | {"options": f"{timeouts} {given}"}


def _begin_postgres(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("writes", False):
        connection.exec_driver_sql("LOCK TABLE instance IN EXCLUSIVE MODE")  # readers read on
    if options.get("notes", False):
        connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin on its own terms; `_begin_sqlite` does it on ours
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    writes = options.get("writes", False)
    if writes:
        connection.exec_driver_sql(f"PRAGMA synchronous = {'NORMAL' if options.get('notes', False) else 'FULL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _read_json(text: str) -> Any:
    """A JSON column's value. Long ones, such as the roster of a plan, are read again with every request: they are
    parsed once and shared, so nobody may change what a row holds in place."""
    return _parse_long(text) if len(text) > _LONG else json.loads(text)


@lru_cache(_LONG_KEPT)
def _parse_long(text: str) -> Any:
    return json.loads(text)
