"""Who may ask, and what a browser may do with the answer. Everything here is about pages on other sites, which a
browser on this machine also shows: none of them may read or start anything here."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from participant.policy import Refused

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # the data report carries its pictures in itself
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none at all, browsers would not say where a form comes from
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_MISDIRECTED, _FORBIDDEN = 421, 403


class TooLarge(Refused):
    """The request has more bytes than may be sent."""

    def __init__(self, limit: int) -> None:
        super().__init__("too-large", f"that is more than {limit // 2**20:,} MB, the most that can be given at once")


class Guard:
    """ASGI middleware.

    Args:
        hosts: names by which the page may be asked for. Another site can have its own name point to this machine (DNS
            rebinding), and would be asked for by that name.
        limit: bytes of a request.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str], limit: int) -> None:
        self._app, self._hosts, self._limit = app, hosts, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _name(headers.get("host", "")) not in self._hosts:
            answer = PlainTextResponse("This page is not known by that name.", _MISDIRECTED, _HEADERS)
            await answer(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD") and not _own(headers):
            await PlainTextResponse("Forms are taken from this page only.", _FORBIDDEN, _HEADERS)(scope, receive, send)
        else:
            await self._app(scope, self._counted(receive), _with_headers(send))

    def _counted(self, receive: Receive) -> Receive:
        left = self._limit

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise TooLarge(self._limit)
            return message

        return counted


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _own(headers: Headers) -> bool:
    """Whether a form or script of this very page sends this: browsers tell the origin of whatever may change things."""
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sent
