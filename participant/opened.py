"""Sums that this site opened under `ckks`: on the disk, whole, before anything of them leaves.

They carry fresh noise. Opening the same sum again would thin it out, so what was opened once is sent ever after.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from crypto.canonical import sha256
from crypto.plan import Plan
from crypto.wire import Digest
from participant.files import read_unchanged, sync_folder, write_synced
from participant.policy import Refused


class OpenedStore:
    """opened/STUDY/ROUND-ATTEMPT/NUMBER, until the attempt has ended; .tmp while being written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = folder

    def write(self, plan: Plan, parts: Iterable[bytes]) -> tuple[Digest, ...]:
        """Keep the opened parts, and return the SHA-256 of each. Those kept before stay, and `parts` is not begun."""
        folder = self._folder(plan.study, plan.round, plan.attempt)
        if folder.is_dir():
            return tuple(sha256((folder / str(number)).read_bytes()) for number in range(len(list(folder.iterdir()))))
        unfinished, digests = folder.with_name(f"{folder.name}.tmp"), []
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700, parents=True)
        for number, part in enumerate(parts):
            write_synced(unfinished / str(number), part)
            digests.append(sha256(part))
        sync_folder(unfinished)
        unfinished.replace(folder)
        sync_folder(folder.parent)
        return tuple(digests)

    def octets(self, plan: Plan, number: int, digest: Digest) -> bytes:
        """One opened part.

        Raises:
            Refused: it is gone, or was changed.
        """
        data = read_unchanged(self._folder(plan.study, plan.round, plan.attempt) / str(number), digest)
        if data is None:
            words = f"opened part {number} is damaged on this site's disk, and is not opened again"
            raise Refused("opened-damaged", words)
        return data

    def settle(self, study: UUID, number: int, attempt: int) -> None:
        """The attempts up to this one have ended: delete what was opened in them."""
        for folder in (self._root / str(study)).glob("*-*"):
            if tuple(map(int, folder.name.removesuffix(".tmp").split("-"))) <= (number, attempt):
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, study: UUID, number: int, attempt: int) -> Path:
        return self._root / str(study) / f"{number}-{attempt}"
