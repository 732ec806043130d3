"""A wrong clock: tokens are dated by the coordinator's, within bounds, and a person is told."""

from __future__ import annotations

import logging
from email.utils import formatdate
from uuid import uuid4

import httpx
import jwt
import pytest

from crypto.identity import Identity
from participant.client import Client, connect
from participant.session import CORRECTED, Patience, Problem, Session, SiteAuth

NOW = 1_800_000_000.0
LEEWAY = 5.0


class Coordinator:
    """Takes tokens as the real one does, by a clock that shows `NOW`."""

    def __init__(self) -> None:
        self.issued: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, options={"verify_signature": False})
        self.issued.append(claims["iat"] - NOW)
        if claims["iat"] - LEEWAY <= NOW <= claims["exp"] + LEEWAY:
            return httpx.Response(200, json=[])
        problem = {"code": "token-expired", "detail": "not now", "status": 401}
        return httpx.Response(401, json=problem, headers={"Date": formatdate(NOW, usegmt=True)})


def client(coordinator: Coordinator, ahead: float) -> Client:
    http = connect("https://pleura.example.org", transport=httpx.MockTransport(coordinator))
    auth = SiteAuth(Identity.generate(), uuid4(), uuid4(), lambda: NOW + ahead)
    return Client(Session(http, auth, Patience(tries=1), clock=lambda: NOW + ahead), [].append)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("participant"), "propagate", True)
    return caplog


@pytest.mark.parametrize(("ahead", "side"), [(300.0, "300 s ahead of"), (-300.0, "300 s behind")])
def test_five_minutes_are_corrected(ahead: float, side: str, told: pytest.LogCaptureFixture) -> None:
    coordinator = Coordinator()
    asking = client(coordinator, ahead)
    assert asking.studies() == []
    assert asking.studies() == []
    assert coordinator.issued == [ahead, 0.0, 0.0], "one refusal is enough to know"
    (line,) = [record.message for record in told.records if "clock" in record.message]
    assert side in line


@pytest.mark.parametrize("ahead", [4.0, -60.0, 0.0])
def test_what_the_coordinator_takes_is_left(ahead: float) -> None:
    coordinator = Coordinator()
    client(coordinator, ahead).studies()
    assert coordinator.issued == [ahead]


@pytest.mark.parametrize("ahead", [CORRECTED + 10, -CORRECTED - 70, 86400 * 365])
def test_a_clock_far_off_is_a_persons(ahead: float) -> None:
    coordinator = Coordinator()
    with pytest.raises(Problem, match=r"clock is \d+ s (ahead of|behind)"):
        client(coordinator, ahead).studies()
    assert coordinator.issued == [ahead], "no token is signed for a time that a liar may have named"


def test_a_refusal_for_another_reason_is_not_tried_again() -> None:
    asked = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        problem = {"code": "token-invalid", "detail": "no such site", "status": 401}
        return httpx.Response(401, json=problem, headers={"Date": formatdate(NOW, usegmt=True)})

    asking = client(handler, 0.0)  # type: ignore[arg-type]
    with pytest.raises(Problem, match="no such site"):
        asking.studies()
    assert asked == 1


def test_a_clock_that_was_set_right_meanwhile() -> None:
    coordinator, ahead = Coordinator(), [300.0]
    http = connect("https://pleura.example.org", transport=httpx.MockTransport(coordinator))
    auth = SiteAuth(Identity.generate(), uuid4(), uuid4(), lambda: NOW + ahead[0])
    asking = Client(Session(http, auth, Patience(tries=1)), [].append)
    asking.studies()
    ahead[0] = 0.0
    asking.studies()
    assert coordinator.issued == [300.0, 0.0, -300.0, 0.0]
