"""What left this site, and every no it said: JSON lines that are only ever appended, each chained to the one before."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from crypto.canonical import canonical, sha256
from participant.files import sync_folder, write_synced
from participant.locks import BINARY, lock

log = logging.getLogger(__name__)

Entry = dict[str, Any]
_START: Final = "0" * 64
_END: Final = b"\n"
_TAIL: Final = 65536  # bytes at the end in which the last line is looked for; lines are far shorter


class LedgerBroken(Exception):
    """A line that does not follow from the lines before it."""

    def __init__(self, line: int | None, why: str) -> None:
        super().__init__(f"{'the last line' if line is None else f'line {line}'} of the ledger {why}")
        self.line = line


class Ledger:
    """One file. Several processes may append (the agent and a command): a lock on the file orders them.

    Cutting off whole lines at the end leaves a sound chain: compare `head` with a copy noted elsewhere.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock

    def append(self, event: str, **fields: Any) -> None:
        """Write one line and wait until it is on the disk. `fields` are JSON; None ones are left out.

        Raises:
            OSError: it is not there (a full disk): what it tells of must not leave.
        """
        with self._locked() as descriptor:
            set_aside = self._set_torn_line_aside(descriptor)
            if set_aside is not None:
                words = f"a line torn by a crash was moved to {set_aside.name}"
                log.warning("%s: %s", self._path, words)
                self._write(descriptor, "repaired", {"words": words})
            self._write(descriptor, event, {key: value for key, value in fields.items() if value is not None})

    def entries(self) -> Iterator[Entry]:
        """Every line, checked against the chain. One without its end was cut by a crash, or is just being written: what
        it was to tell of has not left, and the next `append` sets it aside.

        Raises:
            LedgerBroken: at the first line that does not fit.
        """
        previous = _START
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(_END):
                    return
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

    def torn(self) -> bool:
        """Whether a crash left a line without its end. The next `append` sets it aside."""
        with self._locked() as descriptor:
            return bool(_divided(_tail(descriptor)[0])[1])

    def head(self) -> str:
        """The hash of the last line: it stands for the whole ledger."""
        with self._locked() as descriptor:
            return self._last(descriptor)[1]

    @contextmanager
    def _locked(self) -> Iterator[int]:
        new = not self._path.exists()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | BINARY, 0o600)
        try:
            lock(descriptor, wait=True)
            if new:
                sync_folder(self._path.parent)
            yield descriptor
        finally:
            os.close(descriptor)

    def _set_torn_line_aside(self, descriptor: int) -> Path | None:
        """A line without its end was cut by a crash: it goes to a file of its own, and the ledger ends before it."""
        tail, start = _tail(descriptor)
        whole, torn = _divided(tail)
        if not torn:
            return None
        aside = self._path.with_name(f"{self._path.name}.torn-{time.time_ns()}")
        write_synced(aside, torn)
        sync_folder(aside.parent)
        os.ftruncate(descriptor, start + len(whole))
        return aside

    def _write(self, descriptor: int, event: str, fields: Entry) -> None:
        seq, previous = self._last(descriptor)
        body = {"seq": seq + 1, "time": self._clock(), "event": event, **fields, "previous": previous}
        line = canonical({**body, "hash": sha256(canonical(body))}) + _END
        while line:  # a disk that fills up takes a part, and refuses the rest
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)

    def _last(self, descriptor: int) -> tuple[int, str]:
        whole, _ = _divided(_tail(descriptor)[0])
        if not whole:
            return 0, _START
        entry = _parsed(None, whole[:-1].rpartition(_END)[2])
        return int(entry["seq"]), str(entry["hash"])


def _tail(descriptor: int) -> tuple[bytes, int]:
    """The file's last octets, and where they begin."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - _TAIL)
    os.lseek(descriptor, start, os.SEEK_SET)  # what is appended goes to the end all the same
    return os.read(descriptor, size - start), start


def _divided(tail: bytes) -> tuple[bytes, bytes]:
    """Whole lines, and what a crash left of one behind them."""
    end = tail.rfind(_END) + 1
    return tail[:end], tail[end:]


def _parsed(number: int | None, line: bytes) -> Entry:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise LedgerBroken(number, "is not JSON") from error
    if not isinstance(entry, dict):
        raise LedgerBroken(number, "is not a JSON object")
    return entry
