"""Contributions on this site's disk: sealed whole before their first byte leaves, sent from there, then deleted.

sealed/STUDY/ROUND-ATTEMPT.tmp   being written: discarded after a crash, unless its manifest was recorded
sealed/STUDY/ROUND-ATTEMPT       complete: parts, key parts, and what counts if the attempt does: residual, local state
residuals/STUDY.npy              what clipping cut off in the last attempt that counted
local/STUDY/                     what of the training stays here, of the last attempt that counted, and the checkpoint
                                 of a training under way (see `participant.training_files`)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from crypto.canonical import sha256
from crypto.manifest import Manifest
from crypto.plan import Plan
from crypto.schemes import Sealed
from crypto.wire import Digest, Signed
from participant.files import read_unchanged, sync_folder, write_synced
from participant.policy import Refused
from participant.record import Record
from participant.training_files import drop_unfinished, unfinished_rounds

LOCAL_STATE: Final = "local-state.safetensors"
_RESIDUAL: Final = "residual.npy"


@dataclass(frozen=True, slots=True)
class StoredContribution:
    """A complete contribution, read back as the very bytes that were signed for."""

    folder: Path
    manifest: Signed[Manifest]

    @property
    def parts(self) -> tuple[Digest, ...]:
        return self.manifest.message.parts

    @property
    def key_parts(self) -> tuple[Digest, ...]:
        return self.manifest.message.key_parts

    def octets(self, kind: str, number: int) -> bytes:
        """One body part (`kind` "parts") or key part ("key-parts").

        Raises:
            Refused: the file is gone or was changed; the site sits the attempt out, as it never signs twice.
        """
        digest = (self.parts if kind == "parts" else self.key_parts)[number]
        data = read_unchanged(self.folder / f"{kind}-{number}", digest)
        if data is None:
            raise Refused(
                "sealed-damaged", f"{kind} {number} of the sealed contribution is damaged on this site's disk"
            )
        return data

    @property
    def upload_bytes(self) -> int:
        """Octets of the whole upload: parts, key parts and manifest."""
        files = [*self.folder.glob("parts-*"), *self.folder.glob("key-parts-*")]
        return sum(file.stat().st_size for file in files) + len(self.manifest.encode())


class SealedStore:
    """All contributions of this site that are under way, and what counts here of those that counted.

    Args:
        record: remembers the one manifest of each attempt.
        local: the folder of a study where its trainer finds its state.
    """

    def __init__(self, sealed: Path, residuals: Path, record: Record, local: Callable[[UUID], Path]) -> None:
        for folder in (sealed, residuals):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sealed, self._residuals, self._record, self._local = sealed, residuals, record, local

    def find(self, plan: Plan) -> StoredContribution | None:
        """The contribution to a plan, if it was sealed before a crash; what was not finished is removed.

        Raises:
            Refused: a manifest was signed, and what it was signed for is lost.
        """
        folder, temporary = self._folder(plan), self._temporary(plan)
        manifest = self._record.manifest(plan)
        if manifest is None:
            shutil.rmtree(temporary, ignore_errors=True)
            return None
        if temporary.is_dir() and not folder.is_dir():  # killed between the record and the rename
            self._finish(temporary, folder)
        if not folder.is_dir():
            raise Refused("sealed-lost", "what this site sealed for the attempt is lost; it sits the attempt out")
        return StoredContribution(folder, manifest)

    def write(
        self,
        plan: Plan,
        site: UUID,
        sealed: Sealed,
        sign: Callable[[Manifest], Signed[Manifest]],
        state: bytes = b"",
        *,
        residuals: bool = True,
    ) -> StoredContribution:
        """Put a contribution on the disk as it is sealed, part by part, and sign for it, once and for all.

        Args:
            state: what the trainer is to find in its next round if the attempt counts; empty where there is nothing.
            residuals: whether what clipping cut off is for the study's next update.

        Raises:
            Refused: another manifest was signed for this attempt before.
        """
        folder, temporary = self._folder(plan), self._temporary(plan)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700, parents=True)
        parts = tuple(_write(temporary, "parts", sealed))
        key_parts = tuple(_write(temporary, "key-parts", sealed.key_parts))
        if sealed.residual is not None and plan.origin is None and residuals:
            _write_array(temporary / _RESIDUAL, sealed.residual)
        if state:
            write_synced(temporary / LOCAL_STATE, state)
        sync_folder(temporary)
        manifest = sign(Manifest(plan=plan.digest, site=site, parts=parts, key_parts=key_parts))
        self._record.sign_manifest(plan, manifest)
        self._finish(temporary, folder)
        drop_unfinished(self._local(plan.study), plan.round, plan.attempt)  # what was trained is sealed
        return StoredContribution(folder, manifest)

    def under_way(self, study: UUID) -> list[tuple[int, int]]:
        """(round, attempt) of every contribution and training whose end this site has not yet learnt, oldest first."""
        names = [entry.name for entry in (self._sealed / str(study)).glob("*-*")]
        places = {tuple(map(int, name.removesuffix(".tmp").split("-"))) for name in names}
        places |= set(unfinished_rounds(self._local(study)))
        return sorted((number, attempt) for number, attempt in places)

    def settle(self, study: UUID, number: int, attempt: int, *, counted: bool) -> None:
        """The attempt ended: keep its residual and local state if this site was in the sum, and delete everything else
        of it."""
        folder = self._sealed / str(study) / f"{number}-{attempt}"
        if counted:
            _keep(folder / _RESIDUAL, self._residuals / f"{study}.npy")
            _keep(folder / LOCAL_STATE, self._local(study) / LOCAL_STATE)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder.with_name(f"{folder.name}.tmp"), ignore_errors=True)
        drop_unfinished(self._local(study), number, attempt)

    def residual(self, study: UUID, size: int) -> NDArray[np.float32]:
        """What clipping cut off in the last attempt that counted, float32 [size]; zeros without one."""
        path = self._residuals / f"{study}.npy"
        if not path.is_file():
            return np.zeros(size, np.float32)
        residual: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return residual if residual.shape == (size,) else np.zeros(size, np.float32)

    def _folder(self, plan: Plan) -> Path:
        return self._sealed / str(plan.study) / f"{plan.round}-{plan.attempt}"

    def _temporary(self, plan: Plan) -> Path:
        folder = self._folder(plan)
        return folder.with_name(f"{folder.name}.tmp")

    def _finish(self, temporary: Path, folder: Path) -> None:
        temporary.replace(folder)
        sync_folder(folder.parent)


def _keep(pending: Path, place: Path) -> None:
    if pending.is_file():
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pending.replace(place)
        sync_folder(place.parent)


def _write(folder: Path, kind: str, octets: Iterable[bytes | memoryview]) -> Iterator[Digest]:
    """Write numbered files, each on the disk before its digest is given."""
    for number, data in enumerate(octets):
        write_synced(folder / f"{kind}-{number}", data)
        yield sha256(data)


def _write_array(path: Path, values: NDArray[np.float32]) -> None:
    with path.open("xb") as file:
        np.save(file, values, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
