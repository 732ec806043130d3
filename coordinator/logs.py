"""What the coordinator writes about itself: one event a line on standard error, secrets cut out.

Each line says which request, caller, study and round it belongs to, as far as there are any: `about` opens such a
context, `note` adds to it from anywhere within.
"""

from __future__ import annotations

import json
import logging.config
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

_SECRETS: Final = re.compile(r"(pleura-(?:operator|invitation)-|eyJ[\w-]{4})[\w.-]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LINE: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

# The dictionary is shared with threads that work for the same request, which get a copy of the variable only.
_context: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)


@contextmanager
def about(**facts: str) -> Iterator[dict[str, str]]:
    """What the lines that are written in this block are about. Gives the facts, to which `note` adds."""
    noted = dict(facts)
    token = _context.set(noted)
    try:
        yield noted
    finally:
        _context.reset(token)


def note(**facts: str) -> None:
    """Add to what the present lines are about; outside of any `about` it does nothing."""
    noted = _context.get()
    if noted is not None:
        noted.update(facts)


def noted() -> dict[str, str]:
    """What the present lines are about."""
    return dict(_context.get() or {})


class Redacting(logging.Formatter):
    """Cuts operators' tokens, invitations and JWTs out of every line, tracebacks included. None should get this far."""

    def format(self, record: logging.LogRecord) -> str:
        return _SECRETS.sub(r"\1[hidden]", super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """The line itself. Nothing in a name or a path begins another one, which would look like ours."""
        facts = " ".join(f"{key}={value}" for key, value in noted().items())
        line = super().formatMessage(record) + (f" [{facts}]" if facts else "")
        return _one_line(line)


class RedactingJson(Redacting):
    """The same as one JSON object a line, for what collects logs."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        error = {"error": self.formatException(record.exc_info)} if record.exc_info else {}
        return _SECRETS.sub(r"\1[hidden]", _one_line(json.dumps(line | noted() | error, ensure_ascii=False)))


def _one_line(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def configure(level: str, style: str = "text") -> None:
    """Log to standard error, as "text" or "json" lines; uvicorn's loggers go the same way.

    DEBUG is for our own words. Libraries would tell statements with their values, and signed headers of S3.
    """
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"text": {"()": Redacting, "format": _LINE}, "json": {"()": RedactingJson}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": style}},
            "root": {"handlers": ["stderr"], "level": "INFO" if level == "DEBUG" else level},
            "loggers": {
                "coordinator": {"level": level},
                "alembic": {"level": "WARNING"},
                "uvicorn.access": {"level": "WARNING"},  # coordinator.watching has a line a request, with more in it
            },
        }
    )
