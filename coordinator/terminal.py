"""What the commands share: options, the services they work on, how errors end them, how things are printed."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import DBAPIError

from coordinator.app import open_services
from coordinator.backup_file import BackupRefused
from coordinator.errors import CoordinatorError
from coordinator.services import Services
from coordinator.settings import Settings, SettingsError, load
from coordinator.store.audit import AuditBroken
from coordinator.store.instance import WrongBlobs
from crypto.errors import CryptoError

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of database and blobs.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A TOML or env file with settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts: JSON on standard output.")]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def opened(data_dir: Path | None, config: Path | None, **overrides: Any) -> Iterator[Services]:
    """The services of the settings in force; what goes wrong inside ends the command with a sentence."""
    with told():
        services = open_services(settings_in_force(data_dir, config, **overrides))
        try:
            yield services
        finally:
            services.store.close()


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong inside ends the command with a sentence."""
    try:
        yield
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise _ended(f"These options cannot be: {faults}.", 2) from error
    except (CoordinatorError, CryptoError, AuditBroken, WrongBlobs, BackupRefused) as error:
        raise _ended(str(error), 1) from error
    except (OSError, DBAPIError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise _ended(f"The coordinator's files or database cannot be used: {reason}.", 1) from error


def settings_in_force(data_dir: Path | None, config: Path | None, **overrides: Any) -> Settings:
    try:
        return load({"data_dir": data_dir, **overrides}, config)
    except SettingsError as error:
        raise _ended(str(error), 2) from error


def _ended(words: str, code: int) -> typer.Exit:
    err.print(words, style="red", markup=False)
    return typer.Exit(code)


def actor() -> str:
    """Who works on the server itself, for the audit log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container runs as a number that nobody has a name for
        user = f"user {os.getuid()}"
    return f"operator:{user} (on the server)"


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)
