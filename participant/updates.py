"""Is this agent too old for its coordinator? Said at the start and once a day; nothing is ever fetched or installed."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Final

from crypto.errors import Malformed
from crypto.parameters import PROTOCOL_VERSION
from participant.client import Client
from participant.documents import ServerStatus
from participant.session import Problem, Unreachable

log = logging.getLogger(__name__)

EVERY: Final = 86400.0  # seconds


def own_version() -> str:
    return version("pleura")


def needs_update(status: ServerStatus) -> bool:
    """Whether the coordinator no longer speaks this agent's protocol."""
    return PROTOCOL_VERSION not in status.protocols


def notice(status: ServerStatus, own: str | None = None) -> str | None:
    """What to tell a person about this agent's version; None where there is nothing to do.

    Args:
        own: this agent's version, unless it is the installed one.
    """
    own = own or own_version()
    if needs_update(status):
        spoken = ", ".join(map(str, status.protocols))
        older = max(status.protocols, default=0) < PROTOCOL_VERSION
        who = "The coordinator has to be updated by its operator" if older else "Update the agent (docs/hospital.md)"
        return (
            f"The coordinator (Pleura {status.version}) speaks protocol {spoken}, and this agent (Pleura {own}) "
            f"protocol {PROTOCOL_VERSION}: no round can be taken part in. {who}."
        )
    if _order(status.version) > _order(own):
        return (
            f"The coordinator is of Pleura {status.version}, this agent of {own}; they work together. "
            "Update the agent when it suits you (docs/hospital.md)."
        )
    return None


class UpdateNotice:
    """Asks the coordinator now and then, and says in the log what there is to say."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._next = clock, float("-inf")

    def look(self, client: Client) -> None:
        """Say it, once a day. A coordinator that is away, or that answers otherwise, is others' to tell of."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + EVERY
        try:
            words = notice(client.status())
        except (Problem, Unreachable, Malformed):
            return
        if words is not None:
            log.warning("%s", words)


def _order(version: str) -> tuple[int, ...]:
    """1.10.0 after 1.9; what follows the numbers does not count. At most three of them."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))
