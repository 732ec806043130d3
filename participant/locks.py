"""A lock on a file, between processes: POSIX and Windows have their own each."""

from __future__ import annotations

import os
import sys
from typing import Final

BINARY: Final[int] = getattr(os, "O_BINARY", 0)  # for os.open: without it Windows writes line ends of its own

if sys.platform == "win32":
    import msvcrt

    # What is locked there nobody else can read: a byte far behind any content stands for the file.
    _FAR: Final = 1 << 40

    def lock(descriptor: int, *, wait: bool) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError as error:  # waiting, too, gives up after ten seconds
                if not wait:
                    raise BlockingIOError from error
            else:
                return

else:
    import fcntl

    def lock(descriptor: int, *, wait: bool) -> None:
        """Hold a file against all others that call this, until its descriptor is closed or the process ends.

        Raises:
            BlockingIOError: somebody else holds it, and `wait` is False.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
