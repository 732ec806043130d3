"""The study keys this site holds: one secret CKKS context an epoch, in the home folder, readable by its owner only."""

from __future__ import annotations

import threading
from pathlib import Path

from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext
from crypto.wire import Digest
from participant.files import write_whole


class Keyring:
    """Keys by the digest of their epoch record. Each is loaded once: a context starts a pool of threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        self._secret: dict[Digest, SecretContext] = {}
        self._public: dict[Digest, PublicContext] = {}

    def __repr__(self) -> str:
        return f"Keyring({self._folder}, keys hidden)"

    def keep(self, epoch: Digest, secret: SecretContext, public: bytes) -> None:
        """Store an epoch's pair. `public` are the published octets, which the epoch record names by their hash."""
        with self._lock:
            write_whole(self._folder / f"{epoch}.public", public)
            write_whole(self._folder / f"{epoch}.secret", secret.secret_bytes())
            self._secret[epoch] = secret

    def holds(self, epoch: Digest) -> bool:
        return epoch in self._secret or (self._folder / f"{epoch}.secret").is_file()

    def secret(self, epoch: Digest) -> SecretContext:
        """The key that opens sums of the epoch.

        Raises:
            FileNotFoundError: this site was not given it.
        """
        with self._lock:
            if epoch not in self._secret:
                self._secret[epoch] = SecretContext.load((self._folder / f"{epoch}.secret").read_bytes())
            return self._secret[epoch]

    def public(self, epoch: Digest) -> PublicContext:
        """The context to encrypt under.

        Raises:
            FileNotFoundError: this site was not given it.
        """
        with self._lock:
            if epoch not in self._public:
                self._public[epoch] = PublicContext.load((self._folder / f"{epoch}.public").read_bytes())
            return self._public[epoch]
