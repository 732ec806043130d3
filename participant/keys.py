"""The study keys this site holds: one secret CKKS context an epoch, in the home folder, readable by its owner only."""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path
from uuid import UUID

from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext
from crypto.wire import Digest
from participant.files import sync_folder, write_whole


class Keyring:
    """Keys by the digest of their epoch record, a folder a study. Each is loaded once: it starts a pool of threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        self._secret: dict[tuple[UUID, Digest], SecretContext] = {}
        self._public: dict[tuple[UUID, Digest], PublicContext] = {}

    def __repr__(self) -> str:
        return f"Keyring({self._folder}, keys hidden)"

    def keep(self, study: UUID, epoch: Digest, secret: SecretContext, public: bytes) -> None:
        """Store an epoch's pair. `public` are the published octets, which the epoch record names by their hash."""
        folder = self._folder / str(study)
        with self._lock:
            folder.mkdir(mode=0o700, exist_ok=True)
            write_whole(folder / f"{epoch}.public", public)
            write_whole(folder / f"{epoch}.secret", secret.secret_bytes())
            self._secret[study, epoch] = secret

    def holds(self, study: UUID, epoch: Digest) -> bool:
        """Whether it is there, as this study's: another study's key opens nothing here."""
        return (study, epoch) in self._secret or self._file(study, f"{epoch}.secret").is_file()

    def secret(self, study: UUID, epoch: Digest) -> SecretContext:
        """The key that opens sums of the epoch.

        Raises:
            FileNotFoundError: this site was not given it, or deleted it.
        """
        with self._lock:
            if (study, epoch) not in self._secret:
                self._secret[study, epoch] = SecretContext.load(self._file(study, f"{epoch}.secret").read_bytes())
            return self._secret[study, epoch]

    def public(self, study: UUID, epoch: Digest) -> PublicContext:
        """The context to encrypt under.

        Raises:
            FileNotFoundError: this site was not given it, or deleted it.
        """
        with self._lock:
            if (study, epoch) not in self._public:
                self._public[study, epoch] = PublicContext.load(self._file(study, f"{epoch}.public").read_bytes())
            return self._public[study, epoch]

    def drop(self, study: UUID, needed: Collection[Digest] = ()) -> list[Digest]:
        """Delete a study's keys but those of the epochs that are needed; returns which epochs' went."""
        folder = self._folder / str(study)
        with self._lock:
            # What a crash left half written has a dot before its name.
            files = {file: file.name.lstrip(".").partition(".")[0] for file in folder.glob("*")}
            unneeded = {file: epoch for file, epoch in files.items() if epoch not in needed}
            for file, epoch in unneeded.items():
                file.unlink()
                self._secret.pop((study, epoch), None)
                self._public.pop((study, epoch), None)
            if unneeded:
                sync_folder(folder)
            return sorted(set(unneeded.values()))

    def _file(self, study: UUID, name: str) -> Path:
        return self._folder / str(study) / name
