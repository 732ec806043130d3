"""Requests that the coordinator makes itself: to webhooks, at addresses that an operator chose.

Whoever may register an address must not be able to have this service ask its own network (server-side request
forgery): private and loopback addresses are refused where the connection is made, after the name was resolved, so that
a name which resolves differently the second time gains nothing. Redirects are not followed.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpcore

from coordinator.errors import RequestInvalid
from coordinator.settings import Settings

TRY_SECONDS: Final = 20.0
_SECONDS: Final = 5.0  # to connect to each address, to send, and for each piece of the answer
_TIMEOUT: Final = dict.fromkeys(("connect", "read", "write", "pool"), _SECONDS)
_FORM: Final = "A webhook's address is https://HOST[:PORT]/PATH, in ASCII, without a password or a fragment"
# The last 32 bits are an IPv4 address, which is what such a one reaches: compatible, mapped, NAT64 (RFC 6052).
_IPV4_INSIDE: Final = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "64:ff9b::/96")))
# Local NAT64, 6to4 and site-local addresses, which the library takes for the internet's.
_INWARDS: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b:1::/48", "2002::/16", "fec0::/10")))


class AddressRefused(Exception):
    """The name resolves to an address inside a private network."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """Which addresses are admitted beside https ones on the internet: `http`, plain text; `private`, our network.

    `seconds`: the longest that a try takes, not counting the system's search for the name.
    """

    http: bool = False
    private: bool = False
    seconds: float = TRY_SECONDS

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.webhooks_http, settings.webhooks_private)

    def check(self, url: str) -> None:
        """Raise RequestInvalid if nothing would ever be sent there, saying why."""
        if not (url.isascii() and url.isprintable() and " " not in url):
            raise RequestInvalid(f"{_FORM}.")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise RequestInvalid(f"{_FORM}.") from None
        extras = parts.username is not None or parts.fragment
        if not host or port == 0 or extras or parts.scheme not in ("http", "https"):
            raise RequestInvalid(f"{_FORM}.")
        if parts.scheme == "http" and not self.http:
            raise RequestInvalid("Webhooks go over https only. Use https, or set webhooks_http.")
        if not self.private and (host == "localhost" or _is_private(host)):
            raise RequestInvalid(f"{host} is in a private network. Use a public address, or set webhooks_private.")

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer, of which nothing else is read.

        Raises:
            AddressRefused, OSError, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError: nothing
                was sent, or the answer did not come.
        """
        backend = _Guarded(self.private, self.seconds)
        with (
            httpcore.ConnectionPool(ssl_context=ssl.create_default_context(), network_backend=backend) as pool,
            pool.stream(
                "POST", url, headers=list(headers.items()), content=body, extensions={"timeout": dict(_TIMEOUT)}
            ) as answer,
        ):
            return int(answer.status)


class _Guarded(httpcore.SyncBackend):
    """Connects to the very addresses that were checked, one after the other; TLS still asks for the name."""

    def __init__(self, private: bool, seconds: float) -> None:
        self._private, self._seconds = private, seconds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        if not self._private and any(map(_is_private, found)):
            raise AddressRefused(f"{host} is in a private network; webhooks_private would admit it")
        deadline, plain = _Deadline(self._seconds), super().connect_tcp

        def connect(address: str) -> httpcore.NetworkStream:
            return _Timely(plain(address, port, deadline.cut(timeout), local_address, socket_options), deadline)

        for address in found[:-1]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return connect(address)
        return connect(found[-1])


class _Deadline:
    """When a try has to be over. Each step has a timeout of its own, which a slow receiver could use without end."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._ends = seconds, time.monotonic() + seconds

    def cut(self, timeout: float | None) -> float:
        """The timeout, or what is left if that is less."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise httpcore.TimeoutException(f"it was not over within {self._seconds:g} s")
        return left if timeout is None else min(timeout, left)


class _Timely(httpcore.NetworkStream):
    """A stream whose steps end by the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.cut(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.cut(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._deadline.cut(timeout)
        return _Timely(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _is_private(host: str) -> bool:
    """Whether this is an address (a name is none) that the internet does not reach."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if any(address in network for network in _INWARDS):
        return True
    if any(address in network for network in _IPV4_INSIDE):
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return not address.is_global or address.is_multicast
