"""A folder of arrays by key, mapped into memory when used; bounded in size: what is unused for longest goes first."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

DEFAULT_LIMIT: Final = 50 * 10**9
GB: Final = 1e9
_UNFINISHED: Final = ".new"
_A_DAY: Final = 86400.0
_SHARE: Final = 64  # of the limit: how much is written before the folder is looked at again, and kept free


class _File(NamedTuple):
    """Sorted by when it was used last, in seconds since 1970."""

    used: float
    size: int
    path: Path


class CacheFolder:
    """Arrays and short notes in a folder that several processes may use at once, and be killed in.

    What this object has given or taken stays: it belongs to an epoch that is under way, and an epoch that does not fit
    would otherwise drive out, case after case, what it needs next. What does not fit beside that is not kept, and a
    warning says so.

    Its files are readable by their owner only: they are made of patients' images.

    Args:
        path: made when something is first kept.
        limit: bytes that the arrays together may take. Each process may pass it by 1/64 before it looks again.
    """

    def __init__(self, path: Path, limit: int = DEFAULT_LIMIT) -> None:
        self.path, self.limit = path, limit
        self._in_use: dict[str, int] = {}  # names to sizes
        self._reckoned: int | None = None  # bytes in the folder as last looked at, and what was written since
        self._since = 0
        self._said_too_small = False

    def array(self, key: str) -> NDArray[np.float16] | None:
        """What was kept under `key`, mapped into memory; None if it is not here, or damaged."""
        file = self.path / f"{key}.npy"
        try:
            kept: NDArray[np.float16] = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        self._use(file)
        return kept

    def keep(self, key: str, array: NDArray[np.float16]) -> None:
        """Keep `array` under `key`, if there is room for it. Raises OSError, with nothing left behind."""
        if self._has_room(array.nbytes):
            self._write(f"{key}.npy", lambda out: np.save(out, array))

    def note(self, key: str) -> str | None:
        """The text that was noted under `key`."""
        file = self.path / f"{key}.txt"
        try:
            noted = file.read_text("utf-8")
        except OSError:
            return None
        self._use(file)
        return noted

    def keep_note(self, key: str, text: str) -> None:
        """As `keep`, for a text so short that there is always room for it."""
        self._write(f"{key}.txt", lambda out: out.write(text.encode()))

    def _use(self, file: Path) -> None:
        with suppress(OSError):  # another process made room; what is mapped stays readable
            os.utime(file)
            self._in_use[file.name] = file.stat().st_size

    def _write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Write beside, then rename: another process, or the next after a kill, sees the whole file or none."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, unfinished = tempfile.mkstemp(dir=self.path, suffix=_UNFINISHED)
        try:
            with os.fdopen(handle, "wb") as out:
                write(out)
            Path(unfinished).replace(self.path / name)
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise
        self._use(self.path / name)

    def _has_room(self, size: int) -> bool:
        if sum(list(self._in_use.values())) + size > self.limit:  # a list, since others may load meanwhile
            self._say_too_small()
            return False
        if self._reckoned is None or self._reckoned + size > self.limit or self._since * _SHARE > self.limit:
            self._reckoned, self._since = self._make_room(size), 0
        self._reckoned, self._since = self._reckoned + size, self._since + size
        return True

    def _make_room(self, size: int) -> int:
        """Remove what nobody used for longest until `size` more fits; the bytes that are left.

        More than needed goes, so that the folder is not searched at every case once it is full.
        """
        now, files = time.time(), sorted(self._files())
        total = sum(each.size for each in files)
        wanted = total + size + self.limit // _SHARE - self.limit if total + size > self.limit else 0
        freed, oldest = 0, now
        for each in files:
            # What is being written belongs to a process; after a day, to one that was killed.
            killed = each.path.suffix == _UNFINISHED and now - each.used > _A_DAY
            idle = each.path.suffix != _UNFINISHED and each.path.name not in self._in_use
            if killed or (idle and freed < wanted):
                with suppress(OSError):  # another process was faster, or (Windows) is reading it
                    each.path.unlink()
                    freed, oldest = freed + each.size, min(oldest, each.used)
        if freed:
            self._say_made_room(freed, now - oldest)
        return total - freed

    def _files(self) -> Iterator[_File]:
        for entry in os.scandir(self.path) if self.path.is_dir() else ():
            with suppress(OSError):  # gone meanwhile
                yield _File(entry.stat().st_mtime, entry.stat().st_size, Path(entry.path))

    def _say_made_room(self, freed: int, age: float) -> None:
        log.info(
            "%s: %.2f GB of prepared cases, some unused for %.1f days, made room for others. If those are still "
            "trained on, raise cache_gb in config.toml",
            *(self.path, freed / GB, age / _A_DAY),
        )

    def _say_too_small(self) -> None:
        if not self._said_too_small:
            log.warning(
                "%s: the cases of this training fill the %.2f GB that the cache is limited to. The others are read and "
                "prepared again in every epoch, which slows training down: raise cache_gb in config.toml",
                *(self.path, self.limit / GB),
            )
        self._said_too_small = True
