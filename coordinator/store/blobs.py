"""Parts, sums, keys and models as files: the only module that touches them.

A blob appears whole or not at all, and is on the disk before `put_*` returns. Keys are paths below the root, made by
the functions at the end of this module.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID, uuid4

import fsspec

from coordinator.errors import DiskFull

READ_BYTES: Final = 1 << 20
_KEY: Final = re.compile(r"[a-z]+(/[a-z0-9][a-z0-9-]*)+")
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written: bytes and SHA-256 (hex)."""

    size: int
    sha256: str


class Blobs:
    """A blob store: a local folder, or any URL that fsspec opens.

    Every method that takes a missing key raises FileNotFoundError.
    """

    def __init__(self, root: Path | str) -> None:
        self._fs, path = fsspec.core.url_to_fs(str(root))
        self._root = path.rstrip("/")
        self._local = isinstance(root, Path) or "file" in _protocols(self._fs)

    def put_bytes(self, key: str, data: bytes | memoryview) -> Stored:
        """Write a blob, replacing a former one of this key.

        Raises:
            DiskFull: nothing was kept.
        """
        return self.put_stream(key, [data])

    def put_stream(self, key: str, chunks: Iterable[bytes | memoryview]) -> Stored:
        """Write a blob from chunks. What `chunks` raises passes through, and nothing is kept then.

        Raises:
            DiskFull: nothing was kept.
        """
        size, hashed = 0, hashlib.sha256()
        with self.writer(key) as file:
            for chunk in chunks:
                file.write(chunk)
                hashed.update(chunk)
                size += len(chunk)
        return Stored(size, hashed.hexdigest())

    @contextmanager
    def writer(self, key: str) -> Iterator[IO[bytes]]:
        """A file to write; it becomes the blob when the block ends without an exception.

        Raises:
            DiskFull: nothing was kept.
        """
        opened = self._write_local(self._path(key)) if self._local else self._write_remote(self._path(key))
        try:
            with opened as file:
                yield file
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise DiskFull(
                    "The coordinator's disk is full. Nothing was lost: send the same request again later."
                ) from error
            raise

    def open(self, key: str) -> IO[bytes]:
        """The blob for reading, seekable."""
        file: IO[bytes] = self._fs.open(self._path(key), "rb")
        return file

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes [start, end) of a blob."""
        data: bytes = self._fs.cat_file(self._path(key), start=start, end=end)
        return data

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes [start, end) in pieces. The blob is opened at the first piece."""
        with self.open(key) as file:
            file.seek(start)
            left = (self.size(key) if end is None else end) - start
            while left > 0 and (piece := file.read(min(READ_BYTES, left))):
                left -= len(piece)
                yield piece

    def size(self, key: str) -> int:
        return int(self._fs.size(self._path(key)))

    def exists(self, key: str) -> bool:
        return bool(self._fs.exists(self._path(key)))

    def delete(self, key: str) -> None:
        """Delete one blob; one that is not there is fine."""
        if self.exists(key):
            self._fs.rm_file(self._path(key))

    def delete_prefix(self, prefix: str) -> None:
        """Delete everything under a folder of keys; nothing there is fine."""
        path = self._path(prefix)
        if self._fs.exists(path):
            self._fs.rm(path, recursive=True)

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of a blob")
        return f"{self._root}/{key}"

    @contextmanager
    def _write_local(self, path: str) -> Iterator[IO[bytes]]:
        target = Path(path)
        unfinished = target.with_name(f".{target.name}.{uuid4().hex}")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
            _sync_folder(target.parent)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    @contextmanager
    def _write_remote(self, path: str) -> Iterator[IO[bytes]]:
        file = self._fs.open(path, "wb", autocommit=False)
        try:
            yield file
            file.close()
            file.commit()
        except BaseException:
            file.discard()
            raise


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk once the folder that names it is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parts_prefix(round_id: UUID) -> str:
    return f"parts/{round_id}"


def site_parts_prefix(round_id: UUID, site: UUID) -> str:
    return f"{parts_prefix(round_id)}/{site}"


def part_key(round_id: UUID, site: UUID, kind: str, number: int) -> str:
    """`kind` is one of `coordinator.store.tables.PartKind`."""
    return f"{site_parts_prefix(round_id, site)}/{kind}-{number}"


def sums_prefix(round_id: UUID) -> str:
    return f"sums/{round_id}"


def sum_key(round_id: UUID, number: int) -> str:
    return f"{sums_prefix(round_id)}/{number}"


def model_key(digest: str) -> str:
    return f"models/{digest}"


def server_state_key(study: UUID, digest: str) -> str:
    """What a study's server optimiser remembers after a round."""
    return f"server/{study}/{digest}"


def study_key(study: UUID, digest: str) -> str:
    """A public context or a wrap."""
    return f"keys/{study}/{digest}"


def sealed_models_prefix(study: UUID, digest: str) -> str:
    """Envelopes of one model, from members that have it to members that lack it."""
    return f"sealed/{study}/{digest}"


def sealed_model_key(study: UUID, digest: str, recipient: UUID, holder: UUID) -> str:
    return f"{sealed_models_prefix(study, digest)}/{recipient}/{holder}"
