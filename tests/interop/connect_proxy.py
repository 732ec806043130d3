"""A proxy as hospitals have it: CONNECT alone, with a password if wished; it keeps what passes."""

from __future__ import annotations

import base64
import select
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ConnectProxy:
    """Listens on this machine.

    Attributes:
        password: "name:password" that callers have to give; None for none.
        asked: the machines that it was asked to connect to, as host:port.
        passed: every octet that callers sent through it.
    """

    password: str | None = None
    asked: list[str] = field(default_factory=list)
    passed: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def lets_in(self, given: str | None) -> bool:
        if self.password is None:
            return True
        return given == f"Basic {base64.b64encode(self.password.encode()).decode()}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ConnectProxy

    def log_message(self, *_: Any) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.close_connection = True
        if not self.proxy.lets_in(self.headers.get("Proxy-Authorization")):
            self.send_error(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)
            return
        self.proxy.asked.append(self.path)
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as there, suppress(ConnectionError):
            self.send_response(HTTPStatus.OK)
            self.end_headers()
            self._tunnel(there)

    def _tunnel(self, there: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([self.connection, there], [], [])
            for side in ready:
                data = side.recv(65536)
                if not data:
                    return
                if side is there:
                    self.connection.sendall(data)
                else:
                    self.proxy.passed += data
                    there.sendall(data)
