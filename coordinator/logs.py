"""What the coordinator writes about itself: one line an event on standard error, tokens cut out."""

from __future__ import annotations

import logging.config
import re
from typing import Final

_SECRETS: Final = re.compile(r"(pleura-(?:operator|invitation)-|eyJ[\w-]{4})[\w.-]+")


class Redacting(logging.Formatter):
    """Cuts operators' tokens, invitations and JWTs out of every line, tracebacks included. None should get this far."""

    def format(self, record: logging.LogRecord) -> str:
        return _SECRETS.sub(r"\1[hidden]", super().format(record))


def configure(level: str) -> None:
    """Log to standard error; uvicorn's loggers go the same way."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {"()": Redacting, "format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"},
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                "alembic": {"level": "WARNING"},
                "uvicorn.access": {"level": "WARNING"},  # /metrics counts requests; agents ask several times a minute
            },
        }
    )
