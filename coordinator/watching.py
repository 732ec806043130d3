"""Around every request: an id for it, one line in the log, its numbers, and an answer to what nobody caught."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from http import HTTPMethod, HTTPStatus
from typing import Final
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator import logs, problems
from coordinator.monitoring import Monitor

log = logging.getLogger(__name__)

HEADER: Final = "X-Request-Id"
_SANE: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)
_PLACES: Final = ("study", "round", "attempt")
_UNKNOWN: Final = "none"  # route of a path that nothing answers to
_METHODS: Final = frozenset(HTTPMethod)
_OTHER: Final = "other"  # what else a caller has for a method


@dataclass(slots=True)
class _Exchange:
    """What went to and fro for one request so far. `seconds` is the time until the answer began, less what was waited
    at the caller's own wish."""

    began: float
    received: int = 0
    sent: int = 0
    status: int = 0
    seconds: float = 0.0

    def answer(self, status: int, waited: float) -> None:
        self.status, self.seconds = status, time.perf_counter() - self.began - waited


def waited(request: Request, seconds: float) -> None:
    """Of this request's time, so much was waiting for news, as its caller asked: it says nothing of the service."""
    request.state.waited = getattr(request.state, "waited", 0.0) + seconds


async def place(request: Request) -> None:
    """A dependency of every call: the lines that are written meanwhile name the study and the attempt in its path.

    What stands there was not checked yet: a text that would read as another fact is left out.
    """
    found = {key: value for key, value in request.path_params.items() if key in _PLACES}
    logs.note(**{key: value for key, value in found.items() if _SANE.fullmatch(value)})


class Watched:
    """ASGI middleware around all that may refuse or fail. A request's id is the caller's `X-Request-Id` where that is
    up to 64 letters, digits, dots, dashes and underscores, and is sent back with the answer."""

    def __init__(self, app: ASGIApp, monitor: Monitor) -> None:
        self._app, self._monitor = app, monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get(HEADER, "")
        identifier = asked if _SANE.fullmatch(asked) else uuid4().hex
        exchange = _Exchange(time.perf_counter())

        async def received() -> Message:
            message = await receive()
            exchange.received += len(message.get("body", b""))
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.answer(message["status"], scope.get("state", {}).get("waited", 0.0))
                MutableHeaders(scope=message)[HEADER] = identifier
            exchange.sent += len(message.get("body", b""))
            await send(message)

        with logs.about(request=identifier) as noted:
            try:
                await self._app(scope, received, sent)
            except Exception as error:
                if exchange.status:
                    raise  # the answer had begun: the server cuts the connection
                response = await problems.answer(Request(scope), error)
                await response(scope, received, sent)
            finally:
                self._record(scope, exchange, noted.pop(problems.NOTED, None))

    def _record(self, scope: Scope, exchange: _Exchange, problem: str | None) -> None:
        """By route, never by path: ids would make a series each, and so would methods that a caller makes up."""
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        route = getattr(scope.get("route"), "path", _UNKNOWN)
        self._monitor.exchanged(route, exchange.received, exchange.sent)
        if not exchange.status:
            return  # the caller went away before it was answered
        self._monitor.answered(method, route, exchange.status, exchange.seconds, problem)
        # Agents ask several times a minute: what went well is told at DEBUG only.
        level = logging.INFO if exchange.status >= HTTPStatus.BAD_REQUEST else logging.DEBUG
        words = f"{exchange.status} {problem}" if problem else exchange.status
        log.log(level, "%s %s: %s in %.3f s", method, scope["path"], words, exchange.seconds)
