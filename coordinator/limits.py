"""How much and how often: body sizes, requests of one caller, and tries from one address."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.clock import Clock
from coordinator.errors import RateLimited, TooLarge
from coordinator.problems import problem_of
from crypto.parameters import PART_BYTES

MINUTE: Final = 60.0
_KEPT: Final = 10_000  # buckets; full ones are forgotten when there are more


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float


class RateLimit:
    """A token bucket for each caller or address: `burst` tries at once, and as many again over `seconds`.

    It is in this process's memory: replicas count for themselves. `what` completes the sentence "Too many ...".
    """

    def __init__(self, burst: int, seconds: float, what: str, clock: Clock) -> None:
        self._burst, self._refill, self._what, self._clock = float(burst), burst / seconds, what, clock
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def take(self, who: str) -> None:
        """Count one try.

        Raises:
            RateLimited: saying in how many seconds the next one is welcome.
        """
        now = self._clock.now()
        with self._lock:
            if len(self._buckets) > _KEPT:
                self._forget(now)
            bucket = self._buckets.setdefault(who, _Bucket(self._burst, now))
            bucket.tokens, bucket.filled = self._level(bucket, now), now
            if bucket.tokens < 1:
                wait = int((1 - bucket.tokens) / self._refill) + 1
                raise RateLimited(f"Too many {self._what}. Try again in {wait} s.", {"retry_after": wait})
            bucket.tokens -= 1

    def _level(self, bucket: _Bucket, now: float) -> float:
        return min(self._burst, bucket.tokens + max(0.0, now - bucket.filled) * self._refill)

    def _forget(self, now: float) -> None:
        self._buckets = {who: bucket for who, bucket in self._buckets.items() if self._level(bucket, now) < self._burst}


class BodyLimit:
    """ASGI middleware that refuses a body over its limit, by its announced length or once it has grown past it."""

    def __init__(self, app: ASGIApp, message_bytes: int, model_bytes: int) -> None:
        self._app, self._message_bytes, self._model_bytes = app, message_bytes, model_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > limit:
            await problem_of(_too_large(limit)).response()(scope, receive, send)
            return
        received, answered = 0, False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)
            return message

        async def sent(message: Message) -> None:
            """The framework may take our exception for a body that it cannot parse: its answer is replaced."""
            nonlocal answered
            if received <= limit:
                await send(message)
            elif not answered:
                answered = True
                await problem_of(_too_large(limit)).response()(scope, receive, send)

        await self._app(scope, counted, sent)

    def _limit(self, scope: Scope) -> int:
        """Octets (parts, key parts, keys) are one part at most; models and messages have limits of their own."""
        path = scope["path"]
        if scope["method"] == "POST" and path in ("/v1/models", "/models"):
            return self._model_bytes
        if scope["method"] == "PUT" and path.rpartition("/")[0].rpartition("/")[2] in ("parts", "key-parts", "keys"):
            return PART_BYTES
        if scope["method"] == "PUT" and path.rpartition("/")[0].endswith("/envelopes"):  # a sealed model
            return self._model_bytes
        return self._message_bytes


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"This body is larger than the {limit} bytes admitted here.", {"limit": limit})
