"""A process that ends at the n-th of its writes, to the database or to the blob store."""

from __future__ import annotations

from coordinator.store.blobs import Blobs
from coordinator.store.database import Store


class Killed(BaseException):
    """The process ends here: nothing after it runs, no lease is given back."""


class Fuse:
    """Kills at the n-th time it is passed."""

    def __init__(self, at: int | None = None) -> None:
        self.passed, self._at = 0, at

    def __call__(self) -> None:
        self.passed += 1
        if self.passed == self._at:
            raise Killed


class FusedStore(Store):
    """May be killed before and after each transaction that writes."""

    fuse = Fuse()

    def run(self, name, fn):
        self.fuse()
        value = super().run(name, fn)
        self.fuse()
        return value


class FusedBlobs(Blobs):
    """May be killed before and after each blob is written or a folder is deleted."""

    fuse = Fuse()

    def put_bytes(self, key, data):
        self.fuse()
        stored = super().put_bytes(key, data)
        self.fuse()
        return stored

    def delete_prefix(self, prefix):
        self.fuse()
        super().delete_prefix(prefix)
        self.fuse()
