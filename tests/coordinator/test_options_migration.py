"""Studies are made anew with everything that refers to them, and go back as what comes nearest."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from coordinator.store.database import ForeignKeysBroken, Store
from migrations import downgrade, upgrade

STUDY, OTHER, SITE, ROUND = (UUID(int=number).hex for number in (1, 2, 3, 4))
MODEL = "ab" * 32


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


def insert(connection: sqlite3.Connection, table: str, **values) -> None:
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608


def insert_study(connection: sqlite3.Connection, identifier: str, **changes) -> None:
    insert(connection, "studies", **{
        "id": identifier, "name": identifier, "state": "running", "scheme": "lwe-ckks", "release": "open",
        "weighting": "samples", "minimum_contributors": 3, "rounds": 9, "completed": 4, "losses": 0,
        "collect_seconds": 1, "vote_seconds": 1, "open_seconds": 1, "k_max": 8, "n_max": 9, "fraction": 1.0,
        "recipe": "{}", "recipe_digest": MODEL, "layout": "{}", "layout_digest": MODEL, "bounds": "[1.0]",
        "first_model": MODEL, "current_model": MODEL, "created": 0.0, **changes,
    })  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of the revision before, with a study, its member and a round."""
    path = tmp_path / "c.db"
    upgrade(f"sqlite:///{path}", "0004")
    with database(path) as connection:
        insert(connection, "models", digest=MODEL, size=1, layout_digest=MODEL, recipe_digest=MODEL, created=0.0)
        connection.execute("INSERT INTO sites VALUES (?, ?1, ?1, ?1, ?1, 0.0, 0.0, 'active')", (SITE,))
        insert_study(connection, STUDY)
        insert(connection, "memberships", study_id=STUDY, site_id=SITE, index=1, joined=0.0)
        insert(connection, "rounds", id=ROUND, study_id=STUDY, number=1, attempt=1, kind="training",
               state="collecting", plan="{}", plan_digest=MODEL, roster="{}", base_model=MODEL, openers="[]", tried=0,
               started=0.0, due=0.0, lease_attempts=0)  # fmt: skip
    return path


def test_rows_are_kept_both_ways(path: Path) -> None:
    url = f"sqlite:///{path}"
    upgrade(url, "0005")
    with database(path) as connection:
        assert connection.execute("SELECT id, completed FROM studies").fetchall() == [(STUDY, 4)]
        assert connection.execute("SELECT server_state FROM rounds").fetchall() == [(None,)]
        assert connection.execute("SELECT study_id FROM memberships").fetchall() == [(STUDY,)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        insert_study(connection, OTHER, weighting="dynamic", state="finished", reason="ended early")
        with pytest.raises(sqlite3.IntegrityError, match="ck_studies_finished"):
            insert_study(connection, "ff" * 16, state="finished")
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            connection.execute("DELETE FROM studies WHERE id = ?", (STUDY,))
    downgrade(url, "0004")
    with database(path) as connection:
        rows = connection.execute("SELECT id, weighting, state, reason FROM studies ORDER BY id").fetchall()
        assert rows == [(STUDY, "samples", "running", None), (OTHER, "samples", "stopped", "ended early")]
        assert connection.execute("SELECT study_id FROM rounds").fetchall() == [(STUDY,)]
        with pytest.raises(sqlite3.IntegrityError, match="ck_studies_weighting"):
            insert_study(connection, "ff" * 16, weighting="dynamic")


def test_a_migration_that_would_orphan_rows_changes_nothing(path: Path) -> None:
    store = Store(f"sqlite:///{path}")
    with pytest.raises(ForeignKeysBroken, match="would refer to nothing in studies"), store.migrating() as connection:
        connection.exec_driver_sql("DELETE FROM studies")
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM studies").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1, "and the connection checks again"
    store.close()
