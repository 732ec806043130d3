"""Every row as a line of JSON, to be put into a database of either kind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import IO, Any, Final
from uuid import UUID

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    String,
    Table,
    Uuid,
    column,
    func,
    insert,
    inspect,
    select,
    table,
)
from sqlalchemy.orm import Session

from coordinator.store.tables import Base

Kinds = dict[str, str]  # by column, in the order of a line's values: "uuid", "json" or "plain"

_PLAIN: Final = (String, Integer, Float, Boolean)
_TYPES: Final[Mapping[str, Any]] = {"uuid": Uuid(), "json": JSON(none_as_null=True), "plain": None}
_AT_ONCE: Final = 500
_OF_EVERY_DATABASE: Final = ("alembic_version", "instance", "chores")  # which has them before anybody worked with it


def tables() -> list[Table]:
    """All tables; what a row refers to is in an earlier one, or in its own."""
    return Base.metadata.sorted_tables


def kinds(of: Table) -> Kinds:
    """How the values of each column are written."""
    return {each.name: _kind(each) for each in of.columns}


def dump(session: Session, of: Table, file: IO[bytes]) -> int:
    """Write the rows of a table, one a line, and return how many there are."""
    rows = session.execute(select(of).execution_options(yield_per=_AT_ONCE)).mappings()
    number = 0
    for row in _parents_first(of, map(dict, rows)):
        values = [str(value) if isinstance(value, UUID) else value for value in row.values()]
        file.write(json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        number += 1
    return number


def load(connection: Connection, name: str, written: Kinds, lines: Iterable[bytes]) -> None:
    """Insert rows as `dump` wrote them, into tables of the revision that they were written at."""
    into = table(name, *(column(each, _TYPES[kind]) for each, kind in written.items()))
    rows = (_row(written, json.loads(line)) for line in lines)
    while some := list(islice(rows, _AT_ONCE)):
        connection.execute(insert(into), some)


def filled(connection: Connection) -> list[str]:
    """Tables that somebody's work is in."""
    names = [name for name in inspect(connection).get_table_names() if name not in _OF_EVERY_DATABASE]
    return [name for name in names if connection.scalar(select(func.count()).select_from(table(name)))]


def _kind(of: Column[Any]) -> str:
    if isinstance(of.type, Uuid):
        return "uuid"
    if isinstance(of.type, JSON):
        return "json"
    if isinstance(of.type, _PLAIN):
        return "plain"
    raise TypeError(f"{of.table.name}.{of.name}: a backup has no form for {of.type!r} yet")


def _row(written: Kinds, values: Sequence[Any]) -> dict[str, Any]:
    named = zip(written.items(), values, strict=True)
    return {name: UUID(value) if kind == "uuid" and value else value for (name, kind), value in named}


def _parents_first(of: Table, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """PostgreSQL wants the row there that another one of its table refers to."""
    own = next((key for key in of.foreign_keys if key.column.table is of), None)
    if own is None:
        yield from rows
        return
    waiting = {row[own.column.name]: row for row in rows}
    while waiting:
        chain = [waiting.pop(next(iter(waiting)))]
        while (parent := chain[-1][own.parent.name]) in waiting:
            chain.append(waiting.pop(parent))
        yield from reversed(chain)
