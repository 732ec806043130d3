"""Uploads at a hospital's own rate: a token bucket on a clock that the test moves, and a real connection."""

from __future__ import annotations

import httpx
import pytest

from participant.pace import Pace, PacedBody
from participant.session import Patience, Session


class Line:
    """A clock that stands still but for the pauses."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def line() -> Line:
    return Line()


def test_a_long_upload_takes_its_time(line: Line) -> None:
    body = PacedBody(bytes(10_000), Pace(1000, line.clock), line.pause)
    assert b"".join(body) == bytes(10_000)
    assert line.now == pytest.approx(100 + 9)  # the first second's worth leaves at once
    assert max(line.pauses) <= 0.25 + 1e-9


def test_several_uploads_share_one_rate(line: Line) -> None:
    pace = Pace(1000, line.clock)
    pieces = [iter(PacedBody(bytes(3000), pace, line.pause)) for _ in range(2)]
    for one, other in zip(*pieces, strict=True):
        assert len(one) == len(other) == 250
    assert line.now == pytest.approx(100 + 5)


def test_rest_is_not_saved_up(line: Line) -> None:
    pace = Pace(1000, line.clock)
    line.now += 3600
    list(PacedBody(bytes(4000), pace, line.pause))
    assert line.now == pytest.approx(3700 + 3)


def test_a_body_may_be_read_again(line: Line) -> None:
    body = PacedBody(b"0123456789" * 100, Pace(1024, line.clock), line.pause)
    assert b"".join(body) == b"".join(body) == b"0123456789" * 100


def test_a_session_announces_what_it_sends_slowly(line: Line) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.headers.get("Content-Length"), request.headers.get("Transfer-Encoding"), request.read()))
        return httpx.Response(503 if len(seen) == 1 else 204)

    with httpx.Client(base_url="http://coordinator", transport=httpx.MockTransport(answer)) as http:
        session = Session(http, patience=Patience(first=0.0), pause=line.pause, pace=Pace(2048, line.clock))
        session.request("PUT", "/part", content=bytes(5000))
    assert seen == [("5000", None, bytes(5000))] * 2  # the second try sends all of it again, and as slowly
    assert line.now == pytest.approx(100 + 10_000 / 2048 - 1)


def test_a_call_off_ends_the_upload(line: Line) -> None:
    class CalledOff(Exception):
        pass

    def pause(seconds: float) -> None:
        raise CalledOff

    with (
        httpx.Client(base_url="http://c", transport=httpx.MockTransport(lambda _: httpx.Response(204))) as http,
        pytest.raises(CalledOff),
    ):
        Session(http, pause=pause, pace=Pace(1024, line.clock)).request("PUT", "/part", content=bytes(5000))
