"""`pleura-coordinator backup`, `restore`, `migrate` and `disk`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from coordinator import backup as backups
from coordinator import housekeeping
from coordinator.backup_file import Manifest
from coordinator.store import audit
from coordinator.store.blobs import Blobs
from coordinator.store.instance import check_blobs
from coordinator.terminal import (
    AsJson,
    ConfigFile,
    DataDir,
    err,
    moment,
    opened,
    print_json,
    print_table,
    settings_in_force,
    told,
)
from migrations import current


def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="A new file, or the folder to make one in.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Save database and blobs into one file, while the coordinator goes on working."""
    with opened(data_dir, config) as services:
        check_blobs(services.store, services.blobs)
        now = services.clock.now()
        file = target / f"pleura-{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}.tar" if target.is_dir() else target
        manifest = backups.write(services.store, services.blobs, file, now)
    if as_json:
        print_json({"file": str(file), "bytes": file.stat().st_size, **_figures(manifest)})
    else:
        err.print(f"Saved {_words(manifest)} into {file} ({file.stat().st_size:,} bytes).", markup=False)
    _tell_missing(manifest)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` made.", exists=True, dir_okay=False)],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup into an empty database and an empty blob store, of whatever kind the settings name."""
    with told():
        settings = settings_in_force(data_dir, config)
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        blobs = Blobs(settings.blobs_url or settings.blobs, settings.blobs_options)
        manifest = backups.restore(settings.database, blobs, file)
    if as_json:
        print_json({"made": manifest.made, **_figures(manifest)})
    else:
        err.print(f"Restored {_words(manifest)}, as they were on {moment(manifest.made)} UTC.", markup=False)
    _tell_missing(manifest)


def migrate(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Bring the database up to date and check its audit log, then end. `serve` brings it up to date by itself."""
    with opened(data_dir, config) as services:
        rows = services.store.read("verify audit", audit.verify)
        err.print(
            f"The database is at revision {current(services.store.engine)}; {rows} audit rows, one unbroken chain."
        )


def disk(data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """How much room the blobs take, by kind, and how much is free."""
    with opened(data_dir, config) as services:
        check_blobs(services.store, services.blobs)
        usage = housekeeping.usage(services.blobs)
    if as_json:
        print_json(asdict(usage))
        return
    rows = [(kind, f"{room.files:,}", f"{room.size:,}") for kind, room in usage.kinds.items()]
    print_table(("kind", "files", "bytes"), rows)
    if usage.free is not None:
        err.print(f"{usage.free:,} bytes are free.")


def _figures(manifest: Manifest) -> dict[str, object]:
    rows = sum(each.number for each in manifest.rows)
    return {
        "coordinator": manifest.coordinator,
        "rows": rows,
        "blobs": len(manifest.blobs),
        "missing": manifest.missing,
    }


def _words(manifest: Manifest) -> str:
    figures = _figures(manifest)
    return f"{figures['rows']} rows and {figures['blobs']} blobs of coordinator {manifest.coordinator}"


def _tell_missing(manifest: Manifest) -> None:
    """A backup that lacks something ends with 1, so that whoever runs it by the clock hears of it."""
    if manifest.missing:
        listed = "".join(f"\n  {key}" for key in manifest.missing)
        err.print(f"The blob store lacked, or had damaged, what rows refer to:{listed}", style="red", markup=False)
        raise typer.Exit(1)
