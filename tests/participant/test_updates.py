"""Whether the agent is too old: what is said, how often, and that nothing else follows from it."""

from __future__ import annotations

import logging
from uuid import UUID

import httpx
import pytest

from participant.client import Client, connect
from participant.documents import ServerStatus
from participant.session import Patience, Session
from participant.updates import EVERY, UpdateNotice, notice

COORDINATOR = UUID(int=1)


def status(version: str, *protocols: int) -> ServerStatus:
    return ServerStatus(product="pleura", version=version, protocols=protocols, coordinator=COORDINATOR, time=0.0)


@pytest.mark.parametrize("coordinators", ["0.1.0", "0.0.9", "0.1.0.dev3"])
def test_nothing_to_say(coordinators: str) -> None:
    assert notice(status(coordinators, 1), "0.1.0") is None


@pytest.mark.parametrize("coordinators", ["0.9.2", "0.10.0", "1.0"])
def test_a_newer_one_is_told(coordinators: str) -> None:
    assert f"of Pleura {coordinators}, this agent of 0.9.1" in (notice(status(coordinators, 1), "0.9.1") or "")


def test_another_protocol_is_told() -> None:
    words = notice(status("2.0.0", 2, 3), "0.1.0") or ""
    assert "speaks protocol 2, 3" in words
    assert "Update the agent" in words
    assert "has to be updated by its operator" in (notice(status("0.0.1", 0), "0.1.0") or "")


class Asked:
    """A coordinator that counts how often it is asked."""

    def __init__(self) -> None:
        self.times, self.away = 0, False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/status"
        self.times += 1
        if self.away:
            raise httpx.ConnectError("refused")
        newer = {"version": "99.0.0", "protocols": [1], "coordinator": str(COORDINATOR), "time": 0.0}
        return httpx.Response(200, json={"product": "pleura", **newer})


def test_it_is_said_once_a_day(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("participant"), "propagate", True)
    asked, now = Asked(), [0.0]
    http = connect("https://pleura.example.org", transport=httpx.MockTransport(asked))
    client = Client(Session(http, patience=Patience(tries=1)), [].append)
    said = UpdateNotice(lambda: now[0])
    for now[0] in (0.0, 60.0, EVERY - 1):
        said.look(client)
    assert (asked.times, len(caplog.records)) == (1, 1)
    assert "99.0.0" in caplog.text
    asked.away, now[0] = True, EVERY
    said.look(client)
    assert (asked.times, len(caplog.records)) == (2, 1), "a coordinator that is away is not this one's to tell of"
