"""Webhooks: what is told, signed and tried again, at a real HTTP server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore
import pytest

from coordinator.outbound import AddressRefused, Outbound
from coordinator.store.webhooks import RESTS
from coordinator.webhooks import CLAIM_SECONDS, Courier

AT_HOME = Outbound(http=True, private=True)


class Receiver:
    """A service that is told: answers with the statuses that it was given, then with 204."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
                self.send_header("Location", f"{receiver.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/told"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def home(new_world) -> Any:
    return new_world(webhooks_http=True, webhooks_private=True)


@pytest.fixture
def courier(home) -> Courier:
    return Courier(home.services.store, home.clock, AT_HOME)


def add(world: Any, url: str, **wish: Any) -> dict[str, Any]:
    answer = world.operate("POST", "/v1/webhooks", json={"url": url, **wish})
    assert answer.status_code == 201, answer.text
    return answer.json()


def shown(world: Any, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    return world.operate("GET", f"/v1/webhooks/{webhook['id']}/deliveries").json()


def deliver(courier: Courier) -> None:
    while courier.deliver_once():
        pass


def fail_round(world: Any) -> None:
    """The attempt under way gets no contribution in its time."""
    world.clock.advance(3601)
    world.conduct()


def test_what_is_told_and_how_it_is_signed(home, receiver, courier) -> None:
    made = add(home, receiver.url)
    home.begin(name="ct")
    fail_round(home)
    deliver(courier)
    ((headers, body),) = receiver.requests
    told = json.loads(body)
    assert told == {
        "id": headers["webhook-id"],
        "time": home.clock.now(),
        "event": "round.failed",
        "study": {"id": str(home.study_id), "name": "ct"},
        "round": 1,
        "attempt": 1,
    }
    assert (headers["content-type"], headers["webhook-timestamp"]) == ("application/json", str(int(home.clock.now())))
    key = base64.b64decode(made["secret"].removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_a_whole_study(home, receiver, courier) -> None:
    add(home, receiver.url)
    home.begin(rounds=1)
    for _ in range(2):  # the training round, and the evaluation after it
        for site in home.sites:
            site.contribution = None
            site.contribute()
        home.conduct()
        for site in home.sites:
            site.vote()
        home.conduct()
        opener = home.site(home.sites[0].task()["openers"][0])
        assert opener.send(f"{home.attempt}/opening", opener.opening()).status_code == 204
        home.conduct()
    deliver(courier)
    assert sorted(told["event"] for told in receiver.told) == ["round.completed", "round.completed", "study.finished"]
    assert "metrics" not in str(receiver.told)


def test_only_what_was_asked_for_and_only_from_then_on(home, receiver, courier) -> None:
    home.begin()
    home.operate("POST", f"{home.study}/pause")
    add(home, receiver.url, events=["study.paused", "study.stopped"])
    home.operate("POST", f"{home.study}/resume")
    fail_round(home)
    home.operate("POST", f"{home.study}/stop")
    deliver(courier)
    assert [told["event"] for told in receiver.told] == ["study.stopped"]
    assert receiver.told[0]["round"] is None


def test_a_webhook_that_fails_is_tried_again_and_given_up_in_the_end(home, receiver, courier) -> None:
    receiver.statuses = [500] * 100
    made = add(home, receiver.url)
    home.begin()
    fail_round(home)
    deliver(courier)
    for number, rest in enumerate(RESTS, start=1):
        assert len(receiver.requests) == number
        home.clock.advance(rest - 1)
        assert not courier.deliver_once(), "it rests"
        home.clock.advance(1)
        deliver(courier)
    (delivery,) = shown(home, made)
    assert delivery["tries"] == len(RESTS) + 1 == len(receiver.requests)
    assert (delivery["due"], delivery["ended"], delivery["fault"]) == (None, home.clock.now(), "answered 500")
    home.clock.advance(7 * 24 * 3600)
    assert not courier.deliver_once()
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1, "receivers tell repeats by the id"
    assert len({headers["webhook-signature"] for headers, _ in receiver.requests}) == len(receiver.requests)
    (webhook,) = home.operate("GET", "/v1/webhooks").json()
    assert (webhook["waiting"], webhook["given_up"]) == (0, 1)
    assert "secret" not in webhook


def test_one_that_recovers(home, receiver, courier) -> None:
    receiver.statuses = [503]
    made = add(home, receiver.url)
    home.begin()
    fail_round(home)
    deliver(courier)
    assert shown(home, made)[0]["due"] == home.clock.now() + RESTS[0]
    home.clock.advance(RESTS[0])
    deliver(courier)
    (delivery,) = shown(home, made)
    assert (delivery["tries"], delivery["ended"], delivery["fault"]) == (2, home.clock.now(), None)


def test_redirects_are_not_followed(home, receiver, courier) -> None:
    receiver.statuses = [307]
    made = add(home, receiver.url)
    home.begin()
    fail_round(home)
    deliver(courier)
    assert len(receiver.requests) == 1
    assert shown(home, made)[0]["fault"] == "answered 307; redirects are not followed"


def test_nobody_there(home, receiver, courier, caplog) -> None:
    receiver.close()
    made = add(home, receiver.url + "/path-as-good-as-a-password")
    home.begin()
    fail_round(home)
    deliver(courier)
    assert "ConnectError" in shown(home, made)[0]["fault"]
    assert "as-good-as-a-password" not in caplog.text
    assert "as-good-as-a-password" not in home.operate("GET", "/v1/audit").text


def test_addresses_and_secrets_do_not_print(home, receiver, monkeypatch) -> None:
    add(home, receiver.url + "/path-as-good-as-a-password")
    home.begin()
    fail_round(home)
    seen: list[str] = []
    monkeypatch.setattr(Courier, "_send", lambda _, sending: seen.append(repr(sending)))
    Courier(home.services.store, home.clock, AT_HOME).deliver_once()
    assert "tries=1" in seen[0]
    assert "as-good-as-a-password" not in seen[0]
    assert "whsec_" not in seen[0]


class Slow(Outbound):
    """Looks what others do while a request is on its way."""

    def __init__(self, meanwhile: Any) -> None:
        object.__setattr__(self, "meanwhile", meanwhile)

    def post(self, url: str, headers: Any, body: bytes) -> int:
        self.meanwhile()
        return 204


def test_two_replicas_do_not_deliver_at_once(home, receiver, courier) -> None:
    made = add(home, receiver.url)
    home.begin()
    fail_round(home)
    Courier(home.services.store, home.clock, Slow(lambda: deliver(courier))).deliver_once()
    assert receiver.requests == []
    assert shown(home, made)[0]["ended"] == home.clock.now()


def test_a_replica_that_dies_at_it_leaves_it_to_the_others(home, receiver, courier) -> None:
    add(home, receiver.url)
    home.begin()
    fail_round(home)

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Courier(home.services.store, home.clock, Slow(die)).deliver_once()
    assert not courier.deliver_once()
    home.clock.advance(CLAIM_SECONDS)
    deliver(courier)
    assert len(receiver.requests) == 1


def test_removing_one_drops_what_was_on_its_way(home, receiver, courier, refused) -> None:
    made = add(home, receiver.url)
    home.begin()
    fail_round(home)
    receiver.statuses = [500]
    deliver(courier)
    address = f"/v1/webhooks/{made['id']}"
    assert home.operate("DELETE", address).status_code == 204
    home.clock.advance(RESTS[0])
    deliver(courier)
    assert len(receiver.requests) == 1
    refused(home.operate("DELETE", address), 404, "not-found")
    refused(home.operate("GET", f"{address}/deliveries"), 404, "not-found")
    assert home.operate("GET", "/v1/webhooks").json() == []


def test_deliveries_are_forgotten_after_a_month(home, receiver, courier) -> None:
    made = add(home, receiver.url)
    home.begin()
    fail_round(home)
    deliver(courier)
    home.clock.advance(31 * 24 * 3600)
    home.operate("POST", f"{home.study}/stop")
    deliver(courier)
    assert [delivery["event"] for delivery in shown(home, made)] == ["study.stopped"]


def test_who_may(home, receiver, refused) -> None:
    site = home.new_site("hospital-x")
    for answer in (
        home.operate("POST", "/v1/webhooks", home.auditor, json={"url": receiver.url}),
        home.operate("GET", "/v1/webhooks", home.auditor),
        site.call("GET", "/v1/webhooks"),
    ):
        refused(answer, 403, "role-missing")


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/",
        "https://127.0.0.1/",
        "https://localhost:8420/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[::10.0.0.1]/",
        "https://[64:ff9b::10.0.0.1]/",
        "https://[64:ff9b:1::808:808]/",
        "https://[2002:a00:1::1]/",
        "https://[fec0::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[ff02::1]/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://anna:secret@hooks.example.org/",
        "https://hooks.example.org/#part",
        "https://hooks.example.org:99999/",
        "ftp://hooks.example.org/",
        "https:///path",
        "https://höks.example.org/",
        "hooks",
    ],
)
def test_addresses_that_are_refused(world, refused, url: str) -> None:
    document = refused(world.operate("POST", "/v1/webhooks", json={"url": url}), 422, "request-invalid")
    assert "secret" not in document["detail"]


def test_a_name_that_resolves_to_a_private_address_is_refused_when_it_is_reached(receiver, monkeypatch) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
    url = receiver.url.replace("127.0.0.1", "hooks.example.org")
    Outbound(http=True).check(url)
    with pytest.raises(AddressRefused, match="private network"):
        Outbound(http=True).post(url, {}, b"")
    assert receiver.requests == []
    assert AT_HOME.post(url, {}, b"") == 204


@pytest.mark.parametrize("host", ["8.8.8.8", "[2001:4860:4860::8888]", "[64:ff9b::8.8.8.8]"])
def test_addresses_that_are_admitted(host: str) -> None:
    Outbound().check(f"https://{host}/")


def test_the_next_address_is_tried_where_one_does_not_answer(receiver, monkeypatch) -> None:
    real = socket.getaddrinfo

    def two(host: str, *rest: Any, **more: Any) -> list[Any]:
        names = ("127.0.0.2", "127.0.0.1") if host == "hooks.example.org" else (host,)
        return [found for name in names for found in real(name, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    assert AT_HOME.post(receiver.url.replace("127.0.0.1", "hooks.example.org"), {}, b"") == 204
    receiver.close()
    with pytest.raises(httpcore.ConnectError):
        AT_HOME.post(receiver.url.replace("127.0.0.1", "hooks.example.org"), {}, b"")


def test_a_receiver_that_sends_a_letter_at_a_time_is_given_up() -> None:
    """Each comes in time, and the answer would be whole after a minute."""
    given_up = threading.Event()

    def dribble(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            for letter in b"HTTP/1.1 204 No Content\r\nX: " + b"x" * 60 + b"\r\n\r\n":
                connection.sendall(bytes([letter]))
                given_up.wait(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=dribble, args=(listening,), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(httpcore.TimeoutException):
            Outbound(http=True, private=True, seconds=0.5).post(url, {}, b"")
    given_up.set()


def test_the_thread_is_not_waited_for_without_end(home, receiver, monkeypatch) -> None:
    """A try may be under way for longer than a process that is told to end has."""
    monkeypatch.setattr("coordinator.webhooks.STOP_SECONDS", 0.01)
    begun, answers = threading.Event(), threading.Event()
    home.begin()
    add(home, receiver.url)
    fail_round(home)

    def hang() -> None:
        begun.set()
        answers.wait(60)

    worker = Courier(home.services.store, home.clock, Slow(hang))
    worker.start()
    thread = next(thread for thread in threading.enumerate() if thread.name == "courier")
    assert begun.wait(30)
    worker.stop()
    assert thread.is_alive()
    answers.set()
    thread.join(30)
    assert not thread.is_alive(), "it was told to end"


def test_the_thread_delivers_and_ends(home, receiver, courier) -> None:
    arrived = threading.Event()
    home.begin()
    add(home, receiver.url)
    fail_round(home)
    outbound = Slow(arrived.set)
    worker = Courier(home.services.store, home.clock, outbound)
    worker.start()
    assert arrived.wait(timeout=30)
    worker.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "courier"]
