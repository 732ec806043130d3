"""The folder with the images: there, and readable for this user. What is in the images is `check-data`'s."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from participant.doctor.findings import Finding, fail, ok
from participant.settings import Config, Home

_MOST: Final = 20_000  # files that are looked at: a network drive answers slowly


def data(home: Home, config: Config) -> Iterator[Finding]:
    """Whether there is anything, and nothing that this user may not read."""
    place = home.resolved(config.data)
    if not place.exists():
        fix = "Correct data in config.toml, mount the drive, or hand the folder to the container."
        yield fail("data", f"there is no {place}", fix)
        return
    closed: list[str] = []
    files = list(islice(_files(place, closed), _MOST))
    closed += [str(path) for path in files if not os.access(path, os.R_OK)]
    if closed:
        words = f"{len(closed)} files or folders cannot be read by this user, the first is {closed[0]}"
        yield fail("data", words, "Give the agent's user the right to read them; it needs no right to write.")
    elif not files:
        yield fail("data", f"{place} has no file in it", "Put the cases there, or correct data in config.toml.")
    else:
        more = " or more" if len(files) == _MOST else ""
        yield ok("data", f"{len(files)}{more} files at {place}, readable; check-data looks into them")


def _files(place: Path, closed: list[str]) -> Iterator[Path]:
    """Every file below; folders that cannot be listed go into `closed`."""
    if place.is_file():
        yield place
        return
    for folder, _, names in os.walk(place, onerror=lambda error: closed.append(str(error.filename))):
        yield from (Path(folder) / name for name in names)
