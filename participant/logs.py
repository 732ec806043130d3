"""How the agent talks to whoever runs it: colours on a terminal, lines elsewhere, and a log that never fills the disk.

Names, patient ids and paths of cases are kept out where lines are written; tokens and passwords are cut out here.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.logging import RichHandler

_OURS: Final = ("participant", "models", "crypto")
_FILE_BYTES: Final = 5_000_000
_FILES: Final = 5  # beside the one that is written: 30 MB in all
_LINE: Final = "%(asctime)s %(levelname)s %(message)s"
# Invitations, operators' tokens, JWTs; passwords in addresses, as those of proxies may hold one.
_SECRETS: Final = re.compile(r"(pleura-(?:operator|invitation)-|eyJ[\w-]{4})[\w.-]+|(?<=://)[^/@\s]+(?=@)")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class Redacting(logging.Formatter):
    """Cuts out what is secret, of tracebacks too. None should get this far."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """The line itself. No name that comes from elsewhere begins another one, which would look like ours."""
        return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", super().formatMessage(record))


class ForJournal(Redacting):
    """For systemd's journal, which has the time itself and takes the level from the line's head."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(head + line for line in super().format(record).splitlines())


def set_up(console: Console, level: int = logging.INFO) -> None:
    """Send this package's messages to the console: short on a terminal, with time and level in a file."""
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False, show_level=False, markup=False)
        handler.setFormatter(Redacting("%(message)s", datefmt="[%X]"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(ForJournal("%(message)s") if _to_journal() else Redacting(_LINE))
    for name in _OURS:
        logger = logging.getLogger(name)
        for former in logger.handlers:
            former.close()
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def keep(file: Path) -> None:
    """Write them to a file as well, readable by this user alone, and start another one when it is full.

    For one process at a time: the agent that holds the home folder.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = RotatingFileHandler(
        file, maxBytes=_FILE_BYTES, backupCount=_FILES, encoding="utf-8", errors="backslashreplace"
    )
    handler.setFormatter(Redacting(_LINE))
    for name in _OURS:
        logging.getLogger(name).addHandler(handler)


def without_secrets(text: str) -> str:
    """The text with tokens and passwords hidden."""
    return _SECRETS.sub(lambda found: f"{found[1] or ''}[hidden]", text)


def _to_journal() -> bool:
    """Whether standard error is the journal's: systemd names the stream's device and inode in JOURNAL_STREAM."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # there is none, as under a test's runner
        return False
    return (device, inode) == (str(stream.st_dev), str(stream.st_ino))
