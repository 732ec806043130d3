"""Prepared cases, read and resized once: kept in a folder, or in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from participant.data.cache_folder import CacheFolder
from participant.data.errors import UnreadableCase
from participant.data.preprocessing import CTSettings, Settings, prepare_ct, prepare_xray
from participant.data.readers import read_case

FORM = 2  # of what is kept: raise it when readers or preparation change, so that old files are not used


class PreparedCases:
    """Prepared cases by path. With a `folder` they outlast the process, and several processes may share it.

    What is kept is found again by the content of a case's files and by the settings that shape it, wherever the files
    lie. Their content is read when their name, size or time of change is not as it was noted: to read gigabytes at
    each start would cost what the folder saves. A file that changes later is noticed by the next of these objects.
    """

    def __init__(self, settings: Settings, folder: CacheFolder | None) -> None:
        self._settings, self._folder = settings, folder
        self._memory: dict[Path, NDArray[np.float16]] = {}
        self._keys: dict[Path, str] = {}

    def get(self, case: Path) -> NDArray[np.float16]:
        """A CT as (slices, height, width) in HU, or a film as (height, width). Raises UnreadableCase."""
        if self._folder is None:
            if case not in self._memory:
                self._memory[case] = prepared(case, self._settings)
            return self._memory[case]
        if case not in self._keys:
            self._keys[case] = _key(case, self._settings, self._folder)
        kept = self._folder.array(self._keys[case])
        return self._anew(case, self._folder) if kept is None else kept

    def _anew(self, case: Path, folder: CacheFolder) -> NDArray[np.float16]:
        before, self._keys[case] = _looks(case), _key(case, self._settings, folder)
        made = prepared(case, self._settings)
        if _looks(case) == before:  # otherwise it is of neither content
            folder.keep(self._keys[case], made)
        return made


def prepared(case: Path, settings: Settings) -> NDArray[np.float16]:
    """A case read and prepared, as `PreparedCases` keeps it. Raises UnreadableCase."""
    volume = read_case(case)
    wanted = "ct" if isinstance(settings, CTSettings) else "xray"
    if volume.modality != wanted:
        raise UnreadableCase(
            case, f"is of modality {volume.modality}, the recipe takes {wanted}", "Leave this case out"
        )
    return prepare_ct(volume, settings) if isinstance(settings, CTSettings) else prepare_xray(volume, settings)


def _key(case: Path, settings: Settings, folder: CacheFolder) -> str:
    looks = _looks(case)
    content = folder.note(looks)
    if content is None:
        content = _content(case)
        folder.keep_note(looks, content)
    shape = [settings.size[-2:], settings.hu_window] if isinstance(settings, CTSettings) else [settings.kept]
    return _digest([FORM, content, shape])


def _looks(case: Path) -> str:
    """A digest of the names, sizes and times of change of a case's files; names, which may be patients', stay in it."""
    with _readable(case):
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in _files(case)]
        return _digest([str(case.resolve()), stats])


def _content(case: Path) -> str:
    """A digest of a case's files, wherever they lie."""
    digests = []
    with _readable(case):
        for file in _files(case):
            with file.open("rb") as opened:
                digests.append([file.name, hashlib.file_digest(opened, "sha256").hexdigest()])
    return _digest(digests)


def _files(case: Path) -> list[Path]:
    return sorted(file for file in case.iterdir() if file.is_file()) if case.is_dir() else [case]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@contextmanager
def _readable(case: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot be opened ({error.strerror})"
        raise UnreadableCase(case, what, "Put it back, or allow the agent to read it") from error
