"""The proxy lets through what the coordinator takes, for as long as it may wait; with Caddy at hand it is tried."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
import samples
import stack

from coordinator.cli import KEEP_ALIVE_SECONDS
from coordinator.limits import BodyLimit
from coordinator.settings import Settings
from crypto.parameters import PART_BYTES

TEXT: Final = (samples.DOCKER / "Caddyfile").read_text()
DEFAULTS: Final = Settings()
_UNITS: Final = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _patterns(matcher: str) -> list[str]:
    """Paths of a matcher, as regular expressions: an asterisk inside stands for one piece of the path."""
    (paths,) = re.findall(rf"^\t@{matcher} (?:not )?path (.*)$", TEXT, re.MULTILINE)
    assert not [path for path in paths.split() if path.count("*") == 1], "alone at the end it would match any rest"
    return [re.escape(path).replace(r"\*", "[^/]*") for path in paths.split()]


def _limit(matcher: str) -> int:
    (size,) = re.findall(rf"request_body @{matcher} {{\s+max_size (\S+)\s", TEXT)
    number, unit = re.fullmatch(r"(\d+)(\w+)", size).groups()
    return int(number) * _UNITS[unit]


def _calls_with_bodies(calls: samples.Calls) -> Iterator[tuple[str, str]]:
    for path, methods in calls.items():
        filled = re.sub("{[^}]*}", "7", path)
        yield from ((method.upper(), filled) for method in methods if method in ("put", "post"))
    yield from (("POST", path) for path in ("/login", "/logout", "/studies", "/models"))  # the pages'


def test_every_body_that_the_coordinator_takes_gets_there(calls: samples.Calls) -> None:
    own = BodyLimit(lambda *_: None, DEFAULTS.max_message_bytes, DEFAULTS.max_model_bytes)  # type: ignore[arg-type]
    models = _patterns("models")
    assert models == _patterns("others")
    large = []
    for method, path in _calls_with_bodies(calls):
        is_model = any(re.fullmatch(pattern, path) for pattern in models)
        wanted = own._limit({"method": method, "path": path})
        assert _limit("models" if is_model else "others") >= wanted, (method, path)
        large += [path] if is_model and wanted == DEFAULTS.max_model_bytes else []
    assert len(large) == len(models), "each pattern is for a path that takes models"
    assert _limit("others") >= PART_BYTES


def test_it_waits_longer_than_the_coordinator(calls: samples.Calls) -> None:
    (minutes,) = re.findall(r"response_header_timeout (\d+)m\b", TEXT)
    assert 60 * int(minutes) > samples.longest_wait(calls) > 1


def test_it_gives_up_idle_connections_before_the_coordinator_does() -> None:
    (seconds,) = re.findall(r"\tkeepalive (\d+)s$", TEXT, re.MULTILINE)
    assert int(seconds) < KEEP_ALIVE_SECONDS


def test_it_calls_the_coordinator_of_the_composition() -> None:
    services = samples.compose()["services"]
    (host, port) = re.findall(r"reverse_proxy {\$UPSTREAM:(\w+):(\d+)}", TEXT)[0]
    assert host in services
    assert port == samples.only(samples.last_stage(samples.DOCKER / "coordinator.Dockerfile"), "EXPOSE")
    assert re.findall(r"^({\$\w+}) {$", TEXT, re.MULTILINE) == ["{$DOMAIN}"]
    assert "DOMAIN" in services["proxy"]["environment"]
    assert "./Caddyfile:/etc/caddy/Caddyfile:ro" in services["proxy"]["volumes"]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A coordinator as it is served, and Caddy with the shipped file before it."""
    caddy = stack.caddy_or_skip()
    with (
        stack.coordinator(tmp_path / "coordinator", PLEURA_LOGINS_PER_MINUTE="2") as served,
        stack.proxy(caddy, tmp_path / "caddy", served.port) as proxied,
    ):
        yield proxied


def test_bodies_arrive_or_are_refused(url: str) -> None:
    """Whoever has no token is refused by the coordinator: what is asked is who answers."""
    part = "/v1/studies/7/rounds/1/1/parts/0"
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.put(part, content=bytes(PART_BYTES)).status_code == 401
        assert client.post("/v1/models", content=bytes(DEFAULTS.max_message_bytes + 1)).status_code == 401
        assert client.post("/models", content=bytes(DEFAULTS.max_message_bytes + 1)).status_code != 413
        assert client.post("/v1/enrolments", content=bytes(_limit("others") + 1)).status_code == 413
        assert client.get("/readyz").headers["strict-transport-security"]


def test_callers_are_counted_by_addresses_that_they_cannot_choose(url: str) -> None:
    def logins(address: str) -> list[int]:
        with httpx.Client(base_url=url, transport=httpx.HTTPTransport(local_address=address)) as client:
            forged = [{"X-Forwarded-For": f"203.0.113.{number}"} for number in range(3)]
            return [client.post("/login", data={"token": "x"}, headers=each).status_code for each in forged]

    assert logins("127.0.0.2") == [401, 401, 429]
    assert logins("127.0.0.3") == [401, 401, 429]
