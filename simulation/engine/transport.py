"""From an agent's HTTP client straight into the coordinator's app, in one process."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import httpx
from anyio.from_thread import start_blocking_portal
from starlette.types import ASGIApp, Message, Receive, Scope, Send

URL = "http://localhost"  # of a coordinator that is reached without a network
_TIMEOUT = 600.0  # of a coordinator that serves this machine's own workers


class Written:
    """ASGI middleware that counts what was written: requests other than reading ones that succeeded."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lock = threading.Lock()
        self.count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < httpx.codes.BAD_REQUEST:
                with self._lock:
                    self.count += 1
            await send(message)

        reads = scope["type"] != "http" or scope["method"] in ("GET", "HEAD")
        await self._app(scope, receive, send if reads else counting)


class InProcess(httpx.BaseTransport):
    """Answers requests with an app that runs on an event loop of its own, in a thread.

    Any number of clients may share it; they close without it. `stop` ends the loop.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._inner = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(start_blocking_portal())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._portal.call(self._answer, request)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=httpx.ByteStream(await answer.aread()), request=request
        )

    def stop(self) -> None:
        self._stack.close()


def client(url: str, transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """A site's connections. No proxy comes between: the coordinator is this process, or one beside it."""
    return httpx.Client(base_url=url, transport=transport, timeout=_TIMEOUT, trust_env=False)
