"""A proxy between an agent and the coordinator that writes down what passes, and what the agent's disk holds then."""

from __future__ import annotations

import http.client
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

from crypto.canonical import sha256

_CONTRIBUTION = re.compile(
    r"/v1/studies/(?P<study>[^/]+)/rounds/(?P<round>\d+)/(?P<attempt>\d+)/"
    r"(?P<kind>parts|key-parts|manifest)(?:/(?P<number>\d+))?"
)
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Passed:
    """A PUT of a piece of a contribution, and the places in time of its first byte and of the coordinator's
    acknowledgement, which may never have come.

    Attributes:
        attempt: ROUND-ATTEMPT.
        name: as the agent's file is called, such as parts-0; or manifest.
        sealed: SHA-256 of all that the agent's disk held of the attempt as the first byte came, by its name.
        body: what came of it.
    """

    attempt: str
    name: str
    began: int
    sealed: dict[str, str]
    body: bytes = b""
    acknowledged: int | None = None


@dataclass
class CountingProxy:
    """Listens for one agent, whose home is known, and hands on to the coordinator at `port`."""

    port: int
    home: Path
    passed: list[Passed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._moments = count()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def begin(self, path: str) -> Passed | None:
        """A PUT's headers came; None if it is not of a contribution."""
        place = _CONTRIBUTION.fullmatch(path)
        if place is None:
            return None
        attempt = f"{place['round']}-{place['attempt']}"
        files = (self.home / "sealed" / place["study"] / attempt).glob("*parts-*")
        sealed = {file.name: sha256(file.read_bytes()) for file in files}
        name = place["kind"] + (f"-{place['number']}" if place["number"] else "")
        self.passed.append(Passed(attempt, name, next(self._moments), sealed))
        return self.passed[-1]

    def acknowledge(self, passed: Passed) -> None:
        passed.acknowledged = next(self._moments)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: CountingProxy

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # the agent may die in the middle of anything
            super().handle()

    def _hand_on(self) -> None:
        passed = self.proxy.begin(self.path) if self.command == "PUT" else None
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size)
        if passed is not None:
            passed.body = body
        if len(body) < size:  # the agent died as it sent it
            self.close_connection = True
            return
        onward = http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=60)
        onward.request(self.command, self.path, body or None, dict(self.headers.items()))
        answer = onward.getresponse()
        content = answer.read()
        onward.close()
        if passed is not None and answer.status < http.client.MULTIPLE_CHOICES:
            self.proxy.acknowledge(passed)
        self._answer(answer, content)

    def _answer(self, answer: http.client.HTTPResponse, content: bytes) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if answer.status != http.client.NO_CONTENT:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = _hand_on  # noqa: N815  (the names that the library looks for)
