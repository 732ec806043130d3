"""Numbers for Prometheus: requests and bytes as they come, rounds as the database has them."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.store.database import Store
from coordinator.store.history import rounds_by_state


class Monitor:
    """One app's counters."""

    def __init__(self, store: Store) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "pleura_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.received = Counter("pleura_received_bytes", "Bytes of bodies received", registry=self.registry)
        self.registry.register(_Rounds(store))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class _Rounds(Collector):
    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterable[Metric]:
        return []  # so that registering does not read the database

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("pleura_rounds", "Attempts at rounds, by state", labels=["state"])
        for state, count in self._store.read("count rounds", rounds_by_state).items():
            family.add_metric([state], count)
        yield family


class Counted:
    """ASGI middleware that counts requests by route (never by path: ids would make a series each) and bytes."""

    def __init__(self, app: ASGIApp, monitor: Monitor) -> None:
        self._app, self._monitor = app, monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def received() -> Message:
            message = await receive()
            self._monitor.received.inc(len(message.get("body", b"")))
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                self._monitor.requests.labels(scope["method"], route, str(message["status"])).inc()
            await send(message)

        await self._app(scope, received, sent)
