"""Files that are whole or absent after a crash."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from crypto.canonical import sha256


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file so that a crash leaves the former one or the new one; on the disk when this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write_synced(temporary, content, mode)
    temporary.replace(path)
    sync_folder(path.parent)


def write_synced(path: Path, content: bytes | memoryview, mode: int = 0o600) -> None:
    """Write a file and wait until its content is on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        if sys.platform != "win32":  # where the folder says who may read
            os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def read_unchanged(path: Path, digest: str) -> bytes | None:
    """The file's content; None if the file is gone or its SHA-256 is not `digest`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return content if sha256(content) == digest else None


def sync_folder(path: Path) -> None:
    """Wait until names made or renamed in a folder are on the disk."""
    if sys.platform == "win32":  # where a folder cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
