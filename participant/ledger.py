"""What left this site, and every no it said: JSON lines that are only ever appended, each chained to the one before."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from crypto.canonical import canonical, sha256

log = logging.getLogger(__name__)

Entry = dict[str, Any]
_START: Final = "0" * 64
_TAIL: Final = 65536  # bytes at the end in which the last line is looked for; lines are far shorter


class LedgerBroken(Exception):
    """A line that does not follow from the lines before it."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line} of the ledger {why}")
        self.line = line


class Ledger:
    """One file. Several processes may append (the agent and a command): a lock on the file orders them.

    Cutting off whole lines at the end leaves a sound chain: compare `head` with a copy noted elsewhere.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock

    def append(self, event: str, **fields: Any) -> None:
        """Write one line and wait until it is on the disk. `fields` are JSON; None ones are left out."""
        with self._locked() as descriptor:
            set_aside = self._set_torn_line_aside(descriptor)
            if set_aside is not None:
                words = f"a line torn by a crash was moved to {set_aside.name}"
                log.warning("%s: %s", self._path, words)
                self._write(descriptor, "repaired", {"words": words})
            self._write(descriptor, event, {key: value for key, value in fields.items() if value is not None})

    def entries(self) -> Iterator[Entry]:
        """Every line, checked against the chain.

        Raises:
            LedgerBroken: at the first line that does not fit.
        """
        previous = _START
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                entry = _parsed(number, line)
                body = {key: value for key, value in entry.items() if key != "hash"}
                if entry.get("hash") != sha256(canonical(body)):
                    raise LedgerBroken(number, "was changed: its hash is not that of its content")
                if entry.get("seq") != number or entry.get("previous") != previous:
                    raise LedgerBroken(number, "does not follow the line before: a line was removed or inserted")
                previous = entry["hash"]
                yield entry

    def verify(self) -> int:
        """Lines in the ledger, all of them sound.

        Raises:
            LedgerBroken: naming the first line that is not.
        """
        return sum(1 for _ in self.entries())

    def head(self) -> str:
        """The hash of the last line: it stands for the whole ledger."""
        with self._locked() as descriptor:
            return self._last(descriptor)[1]

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _set_torn_line_aside(self, descriptor: int) -> Path | None:
        """A line without its end was cut by a crash: it goes to a file of its own, and the ledger ends before it."""
        tail, start = _tail(descriptor)
        torn = tail[tail.rfind(b"\n") + 1 :]
        if not torn:
            return None
        aside = self._path.with_name(f"{self._path.name}.torn-{time.time_ns()}")
        aside.write_bytes(torn)
        os.ftruncate(descriptor, start + len(tail) - len(torn))
        return aside

    def _write(self, descriptor: int, event: str, fields: Entry) -> None:
        seq, previous = self._last(descriptor)
        body = {"seq": seq + 1, "time": self._clock(), "event": event, **fields, "previous": previous}
        line = canonical({**body, "hash": sha256(canonical(body))}) + b"\n"
        os.write(descriptor, line)
        os.fsync(descriptor)

    def _last(self, descriptor: int) -> tuple[int, str]:
        lines = _tail(descriptor)[0].rstrip(b"\n").rsplit(b"\n", 1)
        if not lines[-1]:
            return 0, _START
        entry = _parsed(0, lines[-1])
        return int(entry["seq"]), str(entry["hash"])


def _tail(descriptor: int) -> tuple[bytes, int]:
    size = os.fstat(descriptor).st_size
    start = max(0, size - _TAIL)
    return os.pread(descriptor, size - start, start), start


def _parsed(number: int, line: bytes) -> Entry:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise LedgerBroken(number, "is not JSON") from error
    if not isinstance(entry, dict):
        raise LedgerBroken(number, "is not a JSON object")
    return entry
