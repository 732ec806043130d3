"""What can be wrong with a hospital's data, as types that callers may tell apart.

    DataError
    ├── UnreadableCase   one case cannot be read
    └── DataProblems     everything that is wrong with the data, found in one pass

Messages name files of the hospital: they are shown there and never sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class DataError(Exception):
    """Base of all errors about a hospital's data."""


class UnreadableCase(DataError):
    """A case that cannot be read: `path` is the file or folder, `what` is wrong with it, `fix` what to do."""

    def __init__(self, path: Path, what: str, fix: str) -> None:
        super().__init__(f"{path}: {what}. {fix}.")
        self.path, self.what, self.fix = path, what, fix

    def __reduce__(self) -> tuple[type[UnreadableCase], tuple[Path, str, str]]:
        return type(self), (self.path, self.what, self.fix)  # readers may run in worker processes


class DataProblems(DataError):
    """Everything that is wrong with the data at `where`, found in one pass so that it can be put right in one."""

    def __init__(self, where: Path, problems: Sequence[str]) -> None:
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        super().__init__("\n- ".join([f"{where}: {count} with the data", *problems]))
        self.where, self.problems = where, tuple(problems)

    def __reduce__(self) -> tuple[type[DataProblems], tuple[Path, tuple[str, ...]]]:
        return type(self), (self.where, self.problems)
