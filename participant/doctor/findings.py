"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's: what was looked at, how it is, and, unless all is well, what to do."""

    check: str
    level: Level
    words: str
    fix: str = ""


def ok(check: str, words: str) -> Finding:
    return Finding(check, "ok", words)


def warn(check: str, words: str, fix: str) -> Finding:
    """The agent works; somebody should know."""
    return Finding(check, "warn", words, fix)


def fail(check: str, words: str, fix: str) -> Finding:
    """The agent cannot take part, or not safely."""
    return Finding(check, "fail", words, fix)
