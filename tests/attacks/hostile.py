"""A coordinator under a test's control: the real one, behind a layer that reads, alters and replaces what it answers.

It has everything that a coordinator has (all traffic in the clear, all stored bytes), and keys of its own making.
It has no site's private keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

import jwt

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request of a site and what it was answered."""

    site: UUID | None
    method: str
    path: str
    body: bytes
    status: int
    answer: bytes

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def message(self) -> Any:
        """The signed message in the request, as JSON."""
        return json.loads(self.body)["message"]


@dataclass(frozen=True, slots=True)
class Rule:
    pattern: str
    sites: frozenset[UUID] | None
    change: Callable[[Any], Any] | None = None
    answer: bytes | None = None

    def fits(self, name: str, site: UUID | None) -> bool:
        return (self.sites is None or site in self.sites) and re.search(self.pattern, name) is not None


@dataclass
class Hostile:
    """An ASGI app around the coordinator's. Patterns are looked for in "METHOD /path"; the last rule given wins."""

    log: list[Exchange] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    _app: App | None = None

    def before(self, app: App) -> Hostile:
        self._app = app
        return self

    # --- the attacker's means

    def change(self, pattern: str, change: Callable[[Any], Any], *sites: UUID) -> None:
        """Alter the JSON that the coordinator answers, to these sites or to all."""
        self.rules.insert(0, Rule(pattern, frozenset(sites) or None, change=change))

    def answer(self, pattern: str, answer: Any, *sites: UUID) -> None:
        """Answer with these bytes, or this JSON, without the coordinator seeing the request."""
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.rules.insert(0, Rule(pattern, frozenset(sites) or None, answer=data))

    def swallow(self, pattern: str, *sites: UUID) -> None:
        """Say that it is done, and keep it from the coordinator."""
        self.answer(pattern, b"", *sites)

    def behave(self) -> None:
        """An honest coordinator from now on."""
        self.rules.clear()

    def sent(self, pattern: str, *sites: UUID, since: int = 0) -> list[Exchange]:
        """What left these sites, or any."""
        found = (each for each in self.log[since:] if re.search(pattern, each.name))
        return [each for each in found if not sites or each.site in sites]

    # --- ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._app is not None
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, site, name = await _whole(receive), _site(scope), f"{scope['method']} {scope['path']}"
        rule = next((rule for rule in self.rules if rule.fits(name, site)), None)
        if rule is not None and rule.answer is not None:
            status, headers, data = 200 if rule.answer else 204, [], rule.answer
        else:
            status, headers, data = await _asked(self._app, _forgetful(scope), receive, body)
            if rule is not None and rule.change is not None and status == 200:
                data = json.dumps(rule.change(json.loads(data))).encode()
        self.log.append(Exchange(site, scope["method"], scope["path"], body, status, data))
        kept = [(key, value) for key, value in headers if key.lower() != b"content-length"]
        length = [(b"content-length", str(len(data)).encode())] if status != 204 else []
        await send({"type": "http.response.start", "status": status, "headers": [*kept, *length]})
        await send({"type": "http.response.body", "body": data})


async def _whole(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def _asked(app: App, scope: Scope, receive: Receive, body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """The coordinator's own answer."""
    messages: list[MutableMapping[str, Any]] = []
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def read_again() -> MutableMapping[str, Any]:
        return unread.pop() if unread else await receive()

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    await app(scope, read_again, send)
    start = messages[0]
    return start["status"], list(start["headers"]), b"".join(each.get("body", b"") for each in messages[1:])


def _forgetful(scope: Scope) -> Scope:
    """The request as if the site knew nothing yet: this coordinator sends whole what an honest one would leave out."""
    query = [pair for pair in parse_qsl(scope["query_string"].decode()) if pair[0] != "known"]
    return {**scope, "query_string": urlencode(query).encode()}


def _site(scope: Scope) -> UUID | None:
    """Who calls, by its token."""
    headers = dict(scope["headers"])
    token = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
    try:
        return UUID(jwt.get_unverified_header(token)["kid"])
    except (jwt.InvalidTokenError, KeyError, ValueError):
        return None
