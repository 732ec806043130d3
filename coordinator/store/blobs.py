"""Parts, sums, keys and models as files: the only module that touches them.

A blob appears whole or not at all, and is on the disk before `put_*` returns. Keys are paths below the root, made by
the functions at the end of this module.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID, uuid4

import fsspec

from coordinator.errors import DiskFull

READ_BYTES: Final = 1 << 20
_AHEAD_BYTES: Final = 8 << 20  # that one open file of an object store holds in memory; s3fs would take 50 MB
_KEY: Final = re.compile(r"[a-z]+(/[a-z0-9][a-z0-9-]*)+")
_UNFINISHED: Final = "."  # what the name of a file begins with whose upload has not ended, or was broken off
_PROBES: Final = "probes/"
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written: bytes and SHA-256 (hex)."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A file in the store: its key, its bytes, when it was last written (Unix seconds, by the store's clock), and
    whether its upload has ended, so that it is a blob."""

    key: str
    size: int
    modified: float
    finished: bool


class Blobs:
    """A blob store: a local folder, or any URL that fsspec opens.

    Every method that takes a missing key raises FileNotFoundError.

    Args:
        options: what fsspec's file system for the URL is told, such as `endpoint_url` for S3.
    """

    def __init__(self, root: Path | str, options: Mapping[str, Any] | None = None) -> None:
        # Replicas write to the same store, so nothing that was listed once may be taken for what is there now.
        self._fs, path = fsspec.core.url_to_fs(str(root), **{**(options or {}), "use_listings_cache": False})
        self._root = path.rstrip("/")
        self._local = "file" in _protocols(self._fs)
        if self._local:
            Path(self._root).mkdir(mode=0o700, parents=True, exist_ok=True)

    def put_bytes(self, key: str, data: bytes | memoryview) -> Stored:
        """Write a blob, replacing a former one of this key.

        Raises:
            DiskFull: nothing was kept.
        """
        if self._local:
            return self.put_stream(key, [data])
        self._fs.pipe_file(self._path(key), bytes(data))  # one request in place of three
        return Stored(len(data), hashlib.sha256(data).hexdigest())

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
        file: IO[bytes] = self._fs.open(self._path(key), "rb", block_size=_AHEAD_BYTES)
        return file

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes [start, end) of a blob."""
        part = {} if (start, end) == (0, None) else {"start": start, "end": end}  # an empty blob has no range
        data: bytes = self._fs.cat_file(self._path(key), **part)
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
        self._remove(self._path(key))

    def delete_prefix(self, prefix: str) -> None:
        """Delete everything under a folder of keys; nothing there is fine."""
        path = self._path(prefix)
        if self._fs.exists(path):
            with suppress(FileNotFoundError):  # another replica was faster with some of it
                self._fs.rm(path, recursive=True)

    def everything(self) -> Iterator[Listed]:
        """All files in the store, unfinished ones as well."""
        for path, about in self._fs.find(self._root, detail=True).items():
            key = path.removeprefix(f"{self._root}/")
            finished = not key.rpartition("/")[2].startswith(_UNFINISHED)
            yield Listed(key, int(about["size"]), _modified(about), finished)

    def is_empty(self) -> bool:
        """Whether nothing is in the store but probes."""
        return all(listed.key.startswith(_PROBES) for listed in self.everything())

    def delete_older(self, listed: Listed) -> bool:
        """Delete a file, finished or not, unless it was written again since it was listed. Whether it is gone."""
        path = f"{self._root}/{listed.key}"
        try:
            if _modified(self._fs.info(path)) > listed.modified:
                return False
        except FileNotFoundError:
            return True
        self._remove(path)
        return True

    def free_bytes(self) -> int | None:
        """What still fits onto the disk; None for an object store, which does not tell."""
        if not self._local:
            return None
        room = os.statvfs(self._root)
        return room.f_bavail * room.f_frsize

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(path)

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of a blob")
        return f"{self._root}/{key}"

    @contextmanager
    def _write_local(self, path: str) -> Iterator[IO[bytes]]:
        target = Path(path)
        unfinished = target.with_name(f"{_UNFINISHED}{target.name}.{uuid4().hex}")
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


def _modified(about: Mapping[str, Any]) -> float:
    """When a file was written, as its file system calls it: of a folder, of S3, of others."""
    found = next(about[name] for name in ("mtime", "LastModified", "created") if name in about)
    return found.timestamp() if isinstance(found, datetime) else float(found)


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk once the folder that names it is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def probe_key(store: UUID) -> str:
    """By which a database finds that the blob store with this id is the one that belongs to it."""
    return f"{_PROBES}{store}"


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
