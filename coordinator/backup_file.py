"""The form of a backup: a tar with blobs, then rows, then a manifest with the SHA-256 of each file."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final
from uuid import uuid4

from coordinator.store.blobs import READ_BYTES
from coordinator.store.rows import Kinds
from migrations import revisions

FORMAT: Final = "pleura/backup/v1"
_MANIFEST: Final = "manifest.json"


class BackupRefused(Exception):
    """A file that is no whole backup, or a place where one cannot be put; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the backup: its name in the tar, and the SHA-256 of its content."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class RowsOf:
    """A table's rows; `kinds` is how its columns are written."""

    table: str
    kinds: Kinds
    number: int
    member: Member


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `missing` are blobs that its rows refer to and the blob store did not have whole."""

    coordinator: str
    made: float
    version: str
    revision: str
    blob_store: str | None
    rows: list[RowsOf]
    blobs: dict[str, Member]
    missing: list[str]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Manifest:
        """Raises BackupRefused if it is of another format, or of a newer version."""
        if value.pop("format") != FORMAT:
            raise BackupRefused("This backup has another format. Restore it with the version that made it.")
        blobs = {key: Member(**member) for key, member in value.pop("blobs").items()}
        rows = [RowsOf(**{**each, "member": Member(**each["member"])}) for each in value.pop("rows")]
        manifest = cls(**value, rows=rows, blobs=blobs)
        if manifest.revision not in revisions():
            raise BackupRefused(
                f"This backup was made by Pleura {manifest.version}, whose database is newer than that of "
                f"{version('pleura')} here. Restore it with that version."
            )
        return manifest


class NewBackup:
    """A backup that is being written, into this folder."""

    def __init__(self, tar: tarfile.TarFile, folder: Path) -> None:
        self._tar, self._folder = tar, folder

    def spool(self) -> IO[bytes]:
        """A file for what is added once it is whole; beside the backup, as the system's folder may be in memory."""
        return TemporaryFile(dir=self._folder)

    def add(self, name: str, file: IO[bytes]) -> Member:
        """Add a file's whole content."""
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        about = tarfile.TarInfo(name)
        about.size, about.mode = file.seek(0, os.SEEK_END), 0o600
        file.seek(0)
        self._tar.addfile(about, file)
        return Member(name, digest)

    def end(self, manifest: Manifest) -> None:
        """Without its manifest a backup is none: it comes last."""
        text = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1)
        self.add(_MANIFEST, BytesIO(text.encode()))


@contextmanager
def writing(path: Path) -> Iterator[NewBackup]:
    """A new file, there under its name once the block ends; hashes of tokens are in it, so nobody else may read it."""
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with os.fdopen(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                yield NewBackup(tar, path.parent)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


class Backup:
    """A backup that is being read."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar, self._members = tar, {member.name: member for member in tar}
        self.manifest = self._read_manifest()

    def check(self) -> None:
        """Raise BackupRefused unless every file is as it was written."""
        for member in (*(each.member for each in self.manifest.rows), *self.manifest.blobs.values()):
            digest = hashlib.sha256()
            for piece in self.content(member):
                digest.update(piece)
            if digest.hexdigest() != member.sha256:
                raise BackupRefused(f"The backup is damaged: {member.name} is not what was written. Take another one.")

    def content(self, member: Member) -> Iterator[bytes]:
        """A file in pieces."""
        with self._open(member.name) as file:
            while piece := file.read(READ_BYTES):
                yield piece

    def lines(self, member: Member) -> Iterator[bytes]:
        with self._open(member.name) as file:
            yield from file

    def _open(self, name: str) -> IO[bytes]:
        file = self._tar.extractfile(self._members[name]) if name in self._members else None
        if file is None:
            raise BackupRefused(f"The backup is not whole: it has no file {name}. Take another one.")
        return file

    def _read_manifest(self) -> Manifest:
        with self._open(_MANIFEST) as file:
            content = file.read()
        try:
            return Manifest.from_json(json.loads(content))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BackupRefused(f"The backup's manifest cannot be read ({error!r}). Take another one.") from error


@contextmanager
def reading(path: Path) -> Iterator[Backup]:
    """Raises BackupRefused if the file is no whole backup."""
    try:
        with tarfile.open(path, "r:") as tar:
            yield Backup(tar)
    except (tarfile.TarError, EOFError) as error:
        raise BackupRefused(f"{path} is no whole backup: {error}. Take another one.") from error
