"""What an import did, for people."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from participant.data.importing.series import LeftOut
from participant.files import write_whole


@dataclass
class Summary:
    """Names of cases, and counts of what is none.

    details: (what, reason, more) of all that was left out; it names files of the hospital.
    """

    imported: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    details: list[tuple[str, str, str]] = field(default_factory=list, repr=False)

    def leave_out(self, what: str, left_out: LeftOut) -> None:
        """Count something that is no case."""
        self.left_out[left_out.reason] += 1
        self.details.append((what, left_out.reason, left_out.detail))

    def write_details(self, path: Path) -> None:
        """A table of all that was left out, readable by its owner only."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("what", "reason", "details"), *self.details])
        write_whole(path, text.getvalue().encode())
