"""Requests: a fresh token each, problems as exceptions, patience with a clock that tests own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest

from crypto.errors import Malformed, WrongDigest
from crypto.identity import Identity, enrolment_bytes, verify_bytes
from crypto.plan import Plan
from participant.client import Client, Leaving, connect
from participant.session import Patience, Problem, Session, SiteAuth, Unreachable

ME, THERE = uuid4(), uuid4()
NOW = 1_800_000_000.0
Handler = Callable[[httpx.Request], httpx.Response]


class Pauses:
    """Remembers how long the client would have waited; after `limit` waits it gives up."""

    def __init__(self, limit: int = 100) -> None:
        self.seconds: list[float] = []
        self._limit = limit

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) >= self._limit:
            raise TimeoutError


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": f"about {code}", "status": status}, headers=headers)


def client(
    handler: Handler, *, pause: Pauses | None = None, tries: int | None = None, sent: list[Leaving] | None = None
) -> Client:
    http = connect("https://pleura.example.org", transport=httpx.MockTransport(handler))
    session = Session(http, patience=Patience(tries=tries), pause=pause or Pauses(), clock=lambda: NOW)
    auth = SiteAuth(Identity.generate(), ME, THERE, lambda: NOW)
    return Client(session.signing(auth), (sent if sent is not None else []).append)


def plan() -> Plan:
    digest = "0" * 64
    return Plan(
        study=UUID(int=7), round=2, attempt=1, kind="training", base_model=digest, layout=digest, recipe=digest,
        roster=digest, epoch=digest, scheme="lwe-ckks", release="open", weighting="equal", expected=(ME,), k_max=16,
        n_max=100, bounds=(1.0,), threshold=None, minimum_contributors=2, collect_until=1, vote_seconds=1,
        open_seconds=1,
    )  # fmt: skip


def test_every_request_carries_a_fresh_short_token() -> None:
    seen: list[str] = []
    identity = Identity.generate()

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"].removeprefix("Bearer "))
        return problem(503, "busy") if len(seen) == 1 else httpx.Response(200, json=[])

    http = connect("https://pleura.example.org", transport=httpx.MockTransport(handler))
    session = Session(http, SiteAuth(identity, ME, THERE, lambda: NOW), pause=Pauses(), clock=lambda: NOW)
    Client(session, [].append).studies()
    claims = [
        jwt.decode(
            token, identity.private_key.public_key(), ["EdDSA"], audience=str(THERE), options={"verify_exp": False,
            "verify_iat": False},
        )
        for token in seen
    ]  # fmt: skip
    assert len({claim["jti"] for claim in claims}) == 2
    assert claims[0]["exp"] - claims[0]["iat"] <= 60
    assert claims[0]["iss"] == claims[0]["sub"] == jwt.get_unverified_header(seen[0])["kid"] == str(ME)


def test_problem_documents_become_typed_errors() -> None:
    with pytest.raises(Problem, match="about round-closed") as caught:
        client(lambda request: problem(409, "round-closed")).put_part(plan(), "parts", 0, b"data")
    assert (caught.value.status, caught.value.code) == (409, "round-closed")


def test_a_proxys_page_is_a_problem_too() -> None:
    with pytest.raises(Problem, match="http-403"):
        client(lambda request: httpx.Response(403, text="<html>blocked by the hospital's proxy")).studies()


def test_an_answer_of_another_kind_is_malformed() -> None:
    with pytest.raises(Malformed, match="not as documented"):
        client(lambda request: httpx.Response(200, text="<html>log in here")).studies()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 507])
def test_passing_problems_are_tried_again(status: int) -> None:
    answers = [problem(status, "busy"), problem(status, "busy", **{"Retry-After": "17"}), httpx.Response(204)]
    pause = Pauses()
    client(lambda request: answers.pop(0), pause=pause).put_part(plan(), "parts", 0, b"data")
    assert len(pause.seconds) == 2
    assert pause.seconds[1] >= 17


def test_a_token_that_was_sent_on_twice_is_replaced() -> None:
    """A proxy that heard no answer asks another coordinator with the same token; ours signs a new one for each try."""
    answers = [problem(401, "token-replayed"), httpx.Response(204)]
    seen = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return answers.pop(0)

    client(handler, pause=Pauses()).put_part(plan(), "parts", 0, b"data")
    assert len(set(seen)) == 2


def test_a_network_that_is_away_is_waited_for() -> None:
    tries = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=[])

    pause = Pauses()
    assert client(handler, pause=pause).studies() == []
    assert len(pause.seconds) == 3


def test_a_command_gives_up_in_words() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate")

    with pytest.raises(Unreachable, match="ca_file"):
        client(handler, tries=3).studies()


def test_a_pause_that_raises_ends_the_tries() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("nothing")

    with pytest.raises(TimeoutError):
        client(handler, pause=Pauses(limit=5)).studies()


def test_backoff_doubles_to_its_ceiling_with_full_jitter() -> None:
    patience = Patience(first=0.5, longest=30.0)
    assert [patience.delay(tries, None, lambda: 1.0) for tries in (1, 2, 3, 10, 5000)] == [1.0, 2.0, 4.0, 30.0, 30.0]
    assert patience.delay(3, None, lambda: 0.0) == 0.0
    assert patience.delay(1, 12.0, lambda: 0.5) == 12.0


@pytest.mark.parametrize(
    ("date", "hint"), [("Fri, 15 Jan 2027 08:05:00 GMT", "behind"), ("Fri, 15 Jan 2027 07:58:00 GMT", "ahead of")]
)
def test_a_refused_token_hints_at_the_clocks(date: str, hint: str) -> None:
    with pytest.raises(Problem, match=hint):
        client(lambda request: problem(401, "token-expired", Date=date)).studies()


def test_a_refused_token_with_right_clocks_has_no_hint() -> None:
    with pytest.raises(Problem) as caught:
        client(lambda request: problem(401, "token-invalid", Date="Fri, 15 Jan 2027 08:00:03 GMT")).studies()
    assert "clock" not in str(caught.value)


def test_parts_are_announced_by_digest_and_told_to_the_ledger_first() -> None:
    sent: list[Leaving] = []

    def handler(request: httpx.Request) -> httpx.Response:
        assert sent, "the ledger comes first"
        digest = base64.b64encode(hashlib.sha256(request.content).digest()).decode()
        assert request.headers["Content-Digest"] == f"sha-256=:{digest}:"
        assert request.url.path == f"/v1/studies/{UUID(int=7)}/rounds/2/1/parts/3"
        return httpx.Response(204)

    client(handler, sent=sent).put_part(plan(), "parts", 3, b"data")
    expected = Leaving("part", 4, hashlib.sha256(b"data").hexdigest(), UUID(int=7), 2, 1)
    assert sent == [expected]


def test_an_enrolment_proves_both_keys_and_hides_the_invitation_from_the_ledger() -> None:
    identity, sent, body = Identity.generate(), list[Leaving](), dict[str, Any]()

    def handler(request: httpx.Request) -> httpx.Response:
        body.update(httpx.Response(200, content=request.content).json())
        return httpx.Response(201, json={"site": str(ME), "coordinator": str(THERE)})

    assert client(handler, sent=sent).enrol("secret-invitation", "north", identity).site == ME
    verify_bytes(
        identity.public, enrolment_bytes("secret-invitation", "north", identity.public), bytes.fromhex(body["proof"])
    )
    assert "secret-invitation" not in repr(sent)


def test_a_model_download_goes_on_where_it_was_torn(tmp_path: Path) -> None:
    content = bytes(range(256)) * 100
    ranges: list[str | None] = []

    class Torn(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            yield content[:10000]
            raise httpx.ReadError("connection lost")

    def handler(request: httpx.Request) -> httpx.Response:
        ranges.append(request.headers.get("Range"))
        if len(ranges) == 1:
            return httpx.Response(200, stream=Torn())
        return httpx.Response(206, content=content[10000:])

    file = tmp_path / "model.partial"
    client(handler).download_model(hashlib.sha256(content).hexdigest(), file)
    assert file.read_bytes() == content
    assert ranges == [None, "bytes=10000-"]


def test_a_model_of_other_bytes_is_discarded(tmp_path: Path) -> None:
    with pytest.raises(WrongDigest):
        client(lambda request: httpx.Response(200, content=b"other")).download_model("1" * 64, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_key_part_of_other_bytes_is_refused() -> None:
    with pytest.raises(WrongDigest, match="key part 0"):
        client(lambda request: httpx.Response(200, content=b"other")).key_part(plan(), ME, 0, "2" * 64)


ROUNDS = f"/v1/studies/{UUID(int=7)}/rounds"


def a_page(number: int, following: str | None) -> httpx.Response:
    """One attempt, and where the next page is."""
    row = {"round": number, "attempt": 1, "state": "failed", "reason": None, "contributors": []}
    return httpx.Response(200, json=[row], headers={"Link": f'<{following}>; rel="next"'} if following else {})


def test_a_list_in_pages_is_read_to_its_end() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.url.host} {request.url.raw_path.decode()}")
        following = {1: f"{ROUNDS}?after=1", 2: f"https://elsewhere.example.net{ROUNDS}?after=2"}.get(len(asked))
        return a_page(len(asked), following)

    assert [row.round for row in client(handler).rounds(UUID(int=7))] == [1, 2, 3]
    here = "pleura.example.org"
    assert asked == [f"{here} {ROUNDS}", f"{here} {ROUNDS}?after=1", f"{here} {ROUNDS}?after=2"]


def test_a_list_whose_pages_lead_back_ends() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        assert len(asked) < 5, "it goes round for ever"
        return a_page(len(asked), f"{ROUNDS}?after=1")

    assert [row.round for row in client(handler).rounds(UUID(int=7))] == [1, 2]


def test_a_list_ends_with_an_empty_page() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        assert len(asked) < 5, "each page names another one"
        return httpx.Response(200, json=[], headers={"Link": f'<{ROUNDS}?after={len(asked)}>; rel="next"'})

    assert client(handler).rounds(UUID(int=7)) == []


def test_a_long_poll_outlasts_its_wait() -> None:
    seen: dict[str, Any] = {}

    def handler(request: httpx.Request) -> httpx.Response:
        seen.update(params=dict(request.url.params), read=request.extensions["timeout"]["read"])
        return problem(404, "not-found")

    with pytest.raises(Problem):
        client(handler).task(uuid4(), "cursor-1", 25.0)
    assert seen["params"] == {"cursor": "cursor-1", "wait": "25"}
    assert seen["read"] > 25
