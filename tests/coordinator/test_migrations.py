"""The revisions make what the tables declare, from wherever the package is installed."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from sqlalchemy import inspect

from coordinator.store.database import Store
from coordinator.store.tables import Base
from migrations import check, current, downgrade, revisions, upgrade


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database without tables."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_database")
    (tmp_path / "100%").mkdir()
    return f"sqlite:///{tmp_path}/100%/c.db"


def tables(url: str) -> set[str]:
    store = Store(url)
    try:
        return set(inspect(store.engine).get_table_names())
    finally:
        store.close()


def declarations(path: str) -> dict[str, list[str]]:
    """What SQLite was told for each table and index, its lines sorted: the order of constraints means nothing."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql NOTNULL").fetchall()
    connection.close()
    # A table that was altered has its new columns on one line, one that was made anew has its name in quotes.
    cut = re.compile(r",?\s*\n\s*|, (?=[a-z_]+ [A-Z])")
    plain = {name: sql.replace(", \n", "\n").replace(f'"{name}"', name) for name, sql in rows}
    return {name: sorted(cut.split(sql)) for name, sql in plain.items() if name != "alembic_version"}


def test_upgrade_from_nothing_and_again(url: str) -> None:
    upgrade(url)
    assert tables(url) == set(Base.metadata.tables) | {"alembic_version"}
    upgrade(url)
    store = Store(url)
    assert current(store.engine) == revisions()[-1]
    store.close()


def test_downgrade_leaves_nothing(url: str) -> None:
    upgrade(url)
    downgrade(url, "base")
    assert tables(url) == {"alembic_version"}
    upgrade(url)
    assert tables(url) == set(Base.metadata.tables) | {"alembic_version"}


def test_processes_that_start_at_once_wait_for_the_one_that_migrates(url: str) -> None:
    """Processes and not threads, which alembic is not made for: as replicas of a new version start."""
    script = "import sys; from migrations import upgrade; sys.stdin.readline(); upgrade(sys.argv[1])"
    arguments = [sys.executable, "-c", script, url]
    started = [subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    said = [b""] * len(started)
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for number, process in enumerate(started):
        said[number] = process.communicate(timeout=120)[1]
    assert [process.returncode for process in started] == [0] * len(started), b"\n".join(said).decode()
    assert tables(url) == set(Base.metadata.tables) | {"alembic_version"}


def test_alembic_finds_no_drift(url: str) -> None:
    upgrade(url)
    check(url)


def test_constraints_are_those_declared_too(tmp_path) -> None:
    """Alembic does not compare CHECK constraints and partial indexes; SQLite's own text does."""
    upgrade(f"sqlite:///{tmp_path}/upgraded.db")
    store = Store(f"sqlite:///{tmp_path}/declared.db")
    Base.metadata.create_all(store.engine)
    store.close()
    assert declarations(f"{tmp_path}/upgraded.db") == declarations(f"{tmp_path}/declared.db")


def test_a_failed_upgrade_changes_nothing(url: str) -> None:
    store = Store(url)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE votes (something TEXT)")
    store.close()
    with pytest.raises(Exception, match=r'votes"? already exists'):
        upgrade(url)
    assert tables(url) == {"votes"}


def test_the_package_carries_its_scripts() -> None:
    names = {path.name for path in files("migrations").iterdir()}
    assert {"env.py", "script.py.mako", "versions"} <= names
