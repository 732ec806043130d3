"""The way to the coordinator, step by step: proxy, name, TLS, the coordinator itself, and the two clocks."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from pydantic import TypeAdapter

from crypto.errors import Malformed
from participant import setup, updates
from participant.client import connect
from participant.doctor.findings import Finding, fail, ok, warn
from participant.documents import ServerStatus, read
from participant.logs import without_secrets
from participant.session import CORRECTED, ahead_of, clock_words, unreachable_words
from participant.settings import Config, ConfigError, Home

_PORTS: Final = {"http": 80, "https": 443}
_EXACT: Final = 2.0  # seconds of difference that nobody has to know of
_EXPIRES: Final = 14 * 86400.0  # seconds before a certificate's end from which it is told
_TIMEOUT: Final = 15.0


@dataclass(frozen=True, slots=True)
class Answered:
    """What `/v1/status` gave: the answer, TLS's certificate where there is one, and when it was asked and answered."""

    response: httpx.Response
    certificate: dict[str, Any]
    now: float


def route(_: Home, config: Config) -> Iterator[Finding]:
    """The proxy, if there is one, and whether the name of the first machine on the way is known."""
    proxy = proxy_of(config.coordinator)
    if proxy is not None:
        yield ok("proxy", f"{without_secrets(proxy)}, as HTTPS_PROXY, HTTP_PROXY or ALL_PROXY says")
    first = urlsplit(proxy or config.coordinator)
    host, port = first.hostname or "", first.port or _PORTS.get(first.scheme, 0)
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        fix = "Ask who runs your network for this name; behind a proxy, set HTTPS_PROXY for the agent's service."
        yield fail("name", f"{host} is not known here: {error.strerror or error}", fix)
    else:
        yield ok("name", f"{host} is {', '.join(sorted(found))}")


def coordinator(home: Home, config: Config) -> Iterator[Finding]:
    """One call, and all that it shows: the connection, TLS, who answers, whether it is ready, and its clock."""
    try:
        with connect(config.coordinator, setup.ca_file_of(home, config)) as http:
            answered = _ask(http)
            yield ok("connection", f"{config.coordinator} answers")
            yield from _tls(answered)
            yield from _status(home, answered)
            yield from _ready(http)
    except ConfigError as error:
        yield fail("connection", str(error), "Correct ca_file in config.toml.")
    except httpx.TransportError as error:
        fix = "Look at the lines above, and whether a firewall lets this machine call that address and port."
        yield fail("connection", without_secrets(unreachable_words(error, httpx.URL(config.coordinator))), fix)


def proxy_of(address: str) -> str | None:
    """The proxy that the environment names for an address."""
    parts = urlsplit(address)
    if proxy_bypass(parts.hostname or ""):
        return None
    named = getproxies()
    return named.get(parts.scheme) or named.get("all")


def _ask(http: httpx.Client) -> Answered:
    with http.stream("GET", "/v1/status", timeout=_TIMEOUT) as response:
        now = time.time()
        tls: ssl.SSLObject | None = response.extensions["network_stream"].get_extra_info("ssl_object")
        certificate = (tls.getpeercert() or {}) if tls is not None else {}
        response.read()
    return Answered(response, dict(certificate), now)


def _tls(answered: Answered) -> Iterator[Finding]:
    certificate = answered.certificate
    if not certificate:
        return
    issuer = {key: value for entry in certificate["issuer"] for key, value in entry}
    left = ssl.cert_time_to_seconds(certificate["notAfter"]) - answered.now
    name = issuer.get("organizationName") or issuer.get("commonName", "an authority without a name")
    words = f"certificate of {name}, good for {left / 86400:.0f} more days"
    if left < _EXPIRES:
        yield warn("tls", words, "Tell the coordinator's operator, or who runs the proxy that decrypts on the way.")
    else:
        yield ok("tls", words)


def _status(home: Home, answered: Answered) -> Iterator[Finding]:
    try:
        status = read(TypeAdapter(ServerStatus), answered.response.content)
    except Malformed:
        words = f"what answers there ({answered.response.status_code}) is no coordinator"
        fix = "Compare the address in config.toml with the operator's; a proxy may ask to log in, or block it."
        yield fail("coordinator", words, fix)
        return
    if home.enrolment.is_file() and setup.enrolment_of(home).coordinator != status.coordinator:
        words = "another coordinator answers at this address than the one this site enrolled with"
        yield fail("coordinator", words, "Telephone the operator before anything else.")
        return
    said = updates.notice(status)
    if said is None:
        yield ok("coordinator", f"Pleura {status.version}, protocol {', '.join(map(str, status.protocols))}")
    elif updates.needs_update(status):
        yield fail("coordinator", said, "See docs/hospital.md, Updating.")
    else:
        yield warn("coordinator", said, "See docs/hospital.md, Updating.")
    yield from clock(answered.response.headers.get("Date"), answered.now)


def clock(date: str | None, now: float) -> Iterator[Finding]:
    """This machine's clock against an answer's Date, which is of whole seconds."""
    ahead = ahead_of(date, now)
    if ahead is None:
        yield warn("clock", "the answer has no Date to compare with", "A proxy may cut it out; look at NTP here.")
        return
    ahead -= 0.5  # on average so much of the second had passed
    if abs(ahead) <= _EXACT:
        yield ok("clock", "right within 2 s of the coordinator's")
    elif abs(ahead) <= CORRECTED:
        words = f"{clock_words(ahead)} The agent corrects for it; the times in its ledger and log are wrong"
        yield warn("clock", words, "Set it by NTP: timedatectl set-ntp true, or your network's time server.")
    else:
        words = f"{clock_words(ahead)} It is too far off for requests to be taken"
        yield fail("clock", words, "Set it by NTP: timedatectl set-ntp true, or your network's time server.")


def _ready(http: httpx.Client) -> Iterator[Finding]:
    response = http.get("/readyz", timeout=_TIMEOUT)
    if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        words = "the coordinator says that it cannot serve just now"
        yield warn("readiness", words, "Nothing to do here: the agent waits for it. If it lasts, call the operator.")
    elif response.is_success:
        yield ok("readiness", "the coordinator can serve")
