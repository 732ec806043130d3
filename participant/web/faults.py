"""What was not foreseen, in the log."""

from __future__ import annotations

import logging
import traceback
from typing import Final

log = logging.getLogger(__name__)

_FRAMES: Final = 5


def note(what: str, error: Exception) -> None:
    """Where it happened, and not what was said: readers quote what they read, patients' names too."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    where = ", called at ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
    log.error("%s: %s at %s", what, type(error).__name__, where)
