"""The keys in the home folder, who may read them, the site's memory, and what a crash left behind."""

from __future__ import annotations

import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from crypto.errors import CryptoError
from crypto.identity import Identity
from participant import setup
from participant.doctor.findings import Finding, fail, ok, warn
from participant.ledger import Ledger, LedgerBroken
from participant.settings import ConfigError, Home

_OLD: Final = 3600.0  # seconds after which a file that is half written is nobody's any more


def identity(home: Home) -> Iterator[Finding]:
    """The site's own keys, whole and for this user alone."""
    try:
        public = Identity.load(home.identity).public
    except (OSError, CryptoError) as error:
        fix = "Do what it says; if the file is lost, follow docs/hospital.md, When your keys are lost."
        yield fail("keys", str(error), fix)
        return
    if others := _readable_by_others(home):
        shown = ", ".join(str(path) for path in others[:5])
        yield fail("keys", f"others on this machine may read {shown}", f"chmod -R go-rwx {home.path}")
    elif sys.platform == "win32":
        words = "who may read files is not looked at on Windows"
        yield warn("keys", words, f"Keep {home.path} within the profile of the agent's user.")
    else:
        yield ok("keys", f"there, for this user alone: {public.words}")


def enrolment(home: Home) -> Iterator[Finding]:
    """Whether the coordinator knows this site."""
    try:
        yield ok("enrolment", f"site {setup.enrolment_of(home).site}")
    except (ConfigError, ValueError, KeyError) as error:
        fix = "pleura-participant enrol INVITATION, with the operator's single-use text."
        yield fail("enrolment", str(error), fix)


def memory(home: Home) -> Iterator[Finding]:
    """The record of what was signed: without it the site sits out the attempt under way."""
    if not home.enrolment.is_file():
        return
    if not home.record.is_file():
        words = f"{home.record.name} is lost; the site sits out the attempt under way and goes on with the next"
        yield warn("record", words, "Nothing: never put back an old copy of it, which would not know what was signed.")
        return
    try:
        with closing(sqlite3.connect(f"{home.record.as_uri()}?mode=ro", uri=True)) as database:
            (said,) = database.execute("PRAGMA quick_check").fetchone()
    except sqlite3.DatabaseError as error:
        said = str(error)
    if said == "ok":
        yield ok("record", "sound")
    else:
        fix = f"Look after the disk, then move {home.record} away: the site sits out one attempt."
        yield fail("record", f"{home.record} is damaged: {said}", fix)


def ledger(home: Home) -> Iterator[Finding]:
    """The chain of what left this site."""
    try:
        yield ok("ledger", f"{Ledger(home.ledger).verify()} lines, sound")
    except LedgerBroken as error:
        fix = "Keep the file as it is and tell your security officer: the agent did not write it so."
        yield fail("ledger", str(error), fix)


def leftovers(home: Home) -> Iterator[Finding]:
    """What was half written when the agent or the machine died: nothing reads it again."""
    before = time.time() - _OLD
    found = [path for path in _half_written(home.path) if path.stat().st_mtime < before]
    if not found:
        yield ok("leftovers", "nothing half written")
        return
    size = sum(path.stat().st_size for path in found) / 1e6
    shown = ", ".join(str(path.relative_to(home.path)) for path in found[:5])
    words = f"{len(found)} half-written files of a crash, {size:.1f} MB: {shown}"
    yield warn("leftovers", words, f"Stop the agent, then delete them in {home.path}.")


def _half_written(home: Path) -> Iterator[Path]:
    """Files under the names that ours have until they are whole."""
    for path in home.rglob("*"):
        if path.is_file() and (path.name.startswith(".") or path.suffix in (".partial", ".new")):
            yield path


def _readable_by_others(home: Home) -> list[Path]:
    """Secret files that neither the folder nor their own mode closes to others."""
    if sys.platform == "win32" or not _open_to_others(home.path):
        return []
    return [
        path
        for path in (home.import_salt, home.page_token, *home.keys.rglob("*.secret"))
        if path.exists() and _open_to_others(path)
    ]


def _open_to_others(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
