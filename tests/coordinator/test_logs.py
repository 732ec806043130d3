"""What stands in the log of real requests and a real round, as text and as JSON, and what never does."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator import logs
from coordinator.logs import Redacting, RedactingJson, configure

STYLES = ("text", "json")


class Output:
    """Everything that was written, in one of the two styles."""

    def __init__(self, style: str) -> None:
        self.style = style
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Of JSON output."""
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`logged(style)` configures logging as `serve` does and gives what is written from then on."""
    root = logging.getLogger()
    names = ("coordinator", "alembic", "httpx", "uvicorn.access")
    before = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in names}

    def configured(style: str, level: str = "DEBUG") -> Output:
        output = Output(style)
        monkeypatch.setattr("sys.stderr", output.stream)
        configure(level, style)
        logging.getLogger("httpx").setLevel("WARNING")  # of the client that calls here; the coordinator has none
        return output

    yield configured
    root.handlers[:], root.level = before[:2]
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)


def line(formatter: logging.Formatter, message: str, error: BaseException | None = None) -> str:
    info = (type(error), error, error.__traceback__) if error else None
    return formatter.format(logging.LogRecord("x", logging.INFO, "f", 1, message, None, info))


@pytest.fixture(params=[Redacting("%(message)s"), RedactingJson()], ids=STYLES)
def formatter(request: pytest.FixtureRequest) -> logging.Formatter:
    return request.param


class TestSecrets:
    @pytest.mark.parametrize("kind", ["operator", "invitation"])
    def test_tokens_and_invitations(self, formatter, kind: str) -> None:
        assert f"came with pleura-{kind}-[hidden], went" in line(formatter, f"came with pleura-{kind}-a1_B-2c, went")

    def test_a_sites_token(self, formatter, world) -> None:
        token = world.new_site("hospital-x").token()
        assert token[10:] not in line(formatter, f"Authorization: Bearer {token}")

    def test_tracebacks(self, formatter) -> None:
        with pytest.raises(ValueError, match="secret") as raised:
            raise ValueError("pleura-operator-secret")
        shown = line(formatter, "failed", raised.value)
        assert "ValueError: pleura-operator-[hidden]" in shown
        assert "operator-secret" not in shown

    def test_other_lines_stay(self, formatter) -> None:
        assert "pleura-coordinator serves the operator anna" in line(
            formatter, "pleura-coordinator serves the operator anna"
        )

    @pytest.mark.parametrize("style", STYLES)
    def test_nothing_of_a_whole_round(self, world, logged, style: str) -> None:
        """Everything that is ours at DEBUG, an error of our own with a token in it among it."""
        output = logged(style)

        def fail() -> None:
            raise RuntimeError(f"came with {world.operator}")

        world.app.add_api_route("/fail", fail)
        invitation = world.invitation()
        enrolment = world.stranger("hospital-x").enrolment(invitation) | {"proof": "00" * 64}
        world.call("POST", "/v1/enrolments", json=enrolment)
        world.begin()
        token = world.sites[0].token()
        for _ in range(2):
            world.call("GET", world.study, headers={"Authorization": f"Bearer {token}"})
        world.operate("GET", f"/{world.auditor}")
        world.call("GET", "/v1/sites", headers={"X-Request-Id": world.auditor})
        assert world.operate("GET", "/fail").status_code == 500
        assert "RuntimeError: came with pleura-operator-[hidden]" in output.text
        assert "token-replayed" in output.text
        for secret in (world.operator, world.auditor, invitation, token):
            assert secret.removeprefix("pleura-operator-")[-20:] not in output.text


class TestRequests:
    def test_the_line_of_a_refused_one(self, world, logged) -> None:
        world.begin()
        output = logged("json", "INFO")
        site = world.sites[0]
        answer = site.call("GET", f"{world.attempt}/ballot", headers={"X-Request-Id": "from-the-proxy.1"})
        (shown,) = output.lines
        assert (shown["level"], shown["logger"]) == ("INFO", "coordinator.watching")
        assert shown["message"].startswith(f"GET {world.attempt}/ballot: 404 not-found in 0.")
        assert shown["request"] == answer.headers["x-request-id"] == answer.json()["request"] == "from-the-proxy.1"
        assert (shown["caller"], shown["study"]) == (f"site:{site.id}", str(world.study_id))
        assert (shown["round"], shown["attempt"]) == ("1", "1")

    def test_what_went_well_is_told_at_debug(self, world, logged) -> None:
        output = logged("json", "INFO")
        world.operate("GET", "/v1/sites")
        assert output.text == ""
        output = logged("json", "DEBUG")
        world.operate("GET", "/v1/sites")
        (shown,) = output.lines
        assert (shown["level"], shown["caller"]) == ("DEBUG", "operator:anna")
        assert shown["message"].startswith("GET /v1/sites: 200 in 0.")

    def test_as_text(self, world, logged) -> None:
        output = logged("text", "INFO")
        answer = world.operate("GET", "/v1/studies/00000000-0000-0000-0000-000000000007")
        (shown,) = output.text.splitlines()
        facts = f"request={answer.headers['x-request-id']} study=00000000-0000-0000-0000-000000000007"
        assert " INFO    coordinator.watching: GET /v1/studies/00" in shown
        assert shown.endswith(f" [{facts} caller=operator:anna]")

    @pytest.mark.parametrize("asked", ["", "x" * 65, "a b", 'a"b', "ä"])
    def test_an_id_that_is_not_sane_is_replaced(self, world, asked: str) -> None:
        first, second = (
            world.call("GET", "/v1/status", headers={"X-Request-Id": asked.encode()}).headers["x-request-id"]
            for _ in range(2)
        )
        assert len(first) == len(second) == 32
        assert first != second

    @pytest.mark.parametrize("style", STYLES)
    def test_a_path_begins_no_line(self, world, logged, style: str) -> None:
        output = logged(style, "INFO")
        world.call("GET", "/nowhere%0A2026-01-01 INFO coordinator.conductor: all is well\u2028again")
        assert len(output.text.splitlines()) == 1

    def test_a_path_makes_no_facts(self, world, logged) -> None:
        output = logged("text", "INFO")
        answer = world.call("GET", "/v1/studies/7 caller=operator:anna/rounds")
        assert output.text.endswith(f" [request={answer.headers['x-request-id']} address=127.0.0.1]\n")

    def test_one_request_tells_nothing_of_another(self, world, logged) -> None:
        world.operate("GET", "/v1/sites")
        assert logs.noted() == {}
        output = logged("json", "INFO")
        world.call("GET", "/v1/sites")
        assert set(output.lines[0]) == {"time", "level", "logger", "message", "request", "address"}

    @pytest.mark.parametrize("token", [None, "pleura-operator-nobodys"])
    def test_whoever_is_refused_for_a_token_is_told_by_address(self, world, logged, token: str | None) -> None:
        output = logged("json", "INFO")
        world.call("GET", "/v1/sites", headers={"Authorization": f"Bearer {token}"} if token else {})
        assert output.lines[0]["address"] == "127.0.0.1"
        world.operate("GET", "/nowhere")
        assert "address" not in output.lines[1]


def test_the_steps_of_a_round(world, logged) -> None:
    world.begin()
    for site in world.sites:
        site.contribute()
    output = logged("json", "INFO")
    world.conduct()
    steps = [shown for shown in output.lines if shown["logger"] == "coordinator.conductor"]
    assert any(": ShowBallot()" in shown["message"] for shown in steps)
    about = [(shown["study"], shown["round"], shown["attempt"]) for shown in steps]
    assert about == [(str(world.study_id), "1", "1")] * len(steps)


def test_a_step_that_fails_is_told_with_its_round(world, logged, monkeypatch: pytest.MonkeyPatch) -> None:
    world.begin()
    for site in world.sites:
        site.contribute()

    def fail(*_: object) -> None:
        raise RuntimeError("no such place")

    monkeypatch.setattr("coordinator.conductor.aggregation.add_up", fail)
    output = logged("json", "INFO")
    world.conductor.advance_once()
    (shown,) = [each for each in output.lines if each["level"] == "ERROR"]
    assert (shown["study"], shown["round"]) == (str(world.study_id), "1")
    assert shown["error"].endswith("RuntimeError: no such place")


def test_libraries_do_not_tell_their_statements(world, logged) -> None:
    output = logged("text", "DEBUG")
    logging.getLogger("sqlalchemy.engine").debug("SELECT with values")
    logging.getLogger("botocore").debug("signed headers")
    logging.getLogger("coordinator.store").debug("ours")
    assert output.text.endswith(" DEBUG   coordinator.store: ours\n")
    assert len(output.text.splitlines()) == 1
