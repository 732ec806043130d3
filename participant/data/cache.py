"""Prepared cases, read and resized once: kept in a folder, or in memory."""

from __future__ import annotations

import json
import os
import tempfile
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from participant.data.errors import UnreadableCase
from participant.data.preprocessing import CTSettings, Settings, prepare_ct, prepare_xray
from participant.data.readers import read_case
from participant.data.volume import Volume

FORM = 1  # of what is kept: raise it when readers or preparation change, so that old files are not used


class PreparedCases:
    """Prepared cases by path. With a `folder` they outlast the process, and several processes may share it.

    What is kept are patients' images: the folder is as confidential as the originals, and its files are readable by
    their owner only.
    """

    def __init__(self, settings: Settings, folder: Path | None) -> None:
        self._settings, self._folder = settings, folder
        self._memory: dict[Path, NDArray[np.float16]] = {}
        self._keys: dict[Path, str] = {}

    def get(self, case: Path) -> NDArray[np.float16]:
        """A CT as (slices, height, width) in HU, or a film as (height, width). Raises UnreadableCase."""
        if self._folder is None:
            if case not in self._memory:
                self._memory[case] = _prepare(case, self._settings)
            return self._memory[case]
        if case not in self._keys:
            self._keys[case] = _key(case, self._settings)
        file = self._folder / f"{self._keys[case]}.npy"
        kept = _load(file)
        if kept is None:
            kept = _prepare(case, self._settings)
            _save(file, kept)
        return kept


def _prepare(case: Path, settings: Settings) -> NDArray[np.float16]:
    volume = read_case(case)
    wanted = "ct" if isinstance(settings, CTSettings) else "xray"
    if volume.modality != wanted:
        raise UnreadableCase(
            case, f"is of modality {volume.modality}, the recipe takes {wanted}", "Leave this case out"
        )
    return _resized(volume, settings)


def _resized(volume: Volume, settings: Settings) -> NDArray[np.float16]:
    return prepare_ct(volume, settings) if isinstance(settings, CTSettings) else prepare_xray(volume, settings)


def _key(case: Path, settings: Settings) -> str:
    """A digest of the case's files (name, size, time of change) and of the settings that shape what is kept.

    Not of their contents: to read gigabytes at each start would cost what the cache saves.
    """
    files = sorted(case.iterdir()) if case.is_dir() else [case]
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    shape = [settings.size[-2:], settings.hu_window] if isinstance(settings, CTSettings) else [settings.kept]
    return sha256(json.dumps([FORM, str(case.resolve()), stats, shape]).encode()).hexdigest()


def _load(file: Path) -> NDArray[np.float16] | None:
    try:
        kept: NDArray[np.float16] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or damaged: prepared anew
        return None
    return kept


def _save(file: Path, prepared: NDArray[np.float16]) -> None:
    """Write beside, then rename: another process sees the whole file or none."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, unfinished = tempfile.mkstemp(dir=file.parent, suffix=".new")
    try:
        with os.fdopen(handle, "wb") as out:
            np.save(out, prepared)
        Path(unfinished).replace(file)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
