"""What lay in the tables before a site could have new keys stays, and goes back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from migrations import downgrade, upgrade

STUDY, NORTH, SOUTH, WEST = (UUID(int=number).hex for number in (1, 2, 3, 4))


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of the first revision, with a used invitation and a newcomer's wrap (of an epoch of no study)."""
    path = tmp_path / "c.db"
    upgrade(f"sqlite:///{path}", "0001")
    signed = json.dumps({"message": {"holder": str(UUID(SOUTH))}, "signature": "00"})
    with database(path) as connection:
        for site in (NORTH, SOUTH, WEST):
            connection.execute("INSERT INTO sites VALUES (?, ?1, ?1, ?1, ?1, 0.0, 0.0, 'active')", (site,))
        connection.execute("INSERT INTO epochs VALUES (?, 1, '{}', 'cc', 'dd', ?, 0.0, NULL)", (STUDY, SOUTH))
        connection.execute("INSERT INTO invitations VALUES ('aa', 'ward 3', 1.0, 2.0, ?)", (NORTH,))
        connection.execute("INSERT INTO wrap_additions VALUES (?, 1, ?, ?, 3.0)", (STUDY, NORTH, signed))
    return path


def test_rows_are_kept_both_ways(path: Path) -> None:
    url = f"sqlite:///{path}"
    upgrade(url, "0002")
    with database(path) as connection:
        assert connection.execute("SELECT hash, used_by, renews FROM invitations").fetchall() == [("aa", NORTH, None)]
        rows = connection.execute("SELECT study_id, epoch, recipient, holder, received FROM wrap_additions").fetchall()
        assert rows == [(STUDY, 1, NORTH, SOUTH, 3.0)]
        connection.execute("INSERT INTO invitations VALUES ('bb', 'again', 1.0, 2.0, ?, ?)", (NORTH, NORTH))
        for holder, received in ((WEST, 2.0), (NORTH, 1.0)):  # an earlier wrap, and the newcomer's word
            signed = json.dumps({"message": {"holder": str(UUID(holder))}, "signature": "00"})
            row = (STUDY, NORTH, holder, signed, received)
            connection.execute("INSERT INTO wrap_additions VALUES (?, 1, ?, ?, ?, ?)", row)
    downgrade(url, "0001")
    with database(path) as connection:
        assert connection.execute("SELECT hash, used_by FROM invitations").fetchall() == [("aa", NORTH)]
        ((recipient, received),) = connection.execute("SELECT recipient, received FROM wrap_additions").fetchall()
        assert (recipient, received) == (NORTH, 2.0), "the first wrap, and not the word"
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT INTO invitations VALUES ('bb', 'again', 1.0, 2.0, ?)", (NORTH,))
