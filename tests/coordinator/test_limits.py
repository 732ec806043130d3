"""How often one caller may ask, and how often an address may be wrong; other callers do not suffer for it."""

from __future__ import annotations


def test_many_requests_of_one_site(new_world, refused) -> None:
    world = new_world(requests_per_second=1)
    one, other = world.new_site("one"), world.new_site("other")
    for _ in range(10):
        assert one.call("GET", "/v1/studies").status_code == 200
    answer = one.call("GET", "/v1/studies")
    assert refused(answer, 429, "rate-limited")["retry_after"] == 2
    assert answer.headers["retry-after"] == "2"
    assert other.call("GET", "/v1/studies").status_code == 200
    world.clock.advance(3)
    assert [one.call("GET", "/v1/studies").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_many_requests_of_one_operator(new_world, refused) -> None:
    world = new_world(requests_per_second=1)
    for _ in range(10):
        assert world.operate("GET", "/v1/sites").status_code == 200
    refused(world.operate("GET", "/v1/sites"), 429, "rate-limited")
    assert world.operate("GET", "/v1/sites", world.auditor).status_code == 200


def test_refused_tokens(new_world, refused) -> None:
    world = new_world(refused_tokens_per_minute=2)
    for _ in range(2):
        refused(world.operate("GET", "/v1/sites", "pleura-operator-wrong"), 401, "token-invalid")
    assert refused(world.operate("GET", "/v1/sites", "a.b.c"), 429, "rate-limited")["retry_after"] > 0
    assert world.operate("GET", "/v1/sites").status_code == 200
    world.clock.advance(60)
    refused(world.operate("GET", "/v1/sites", "a.b.c"), 401, "token-invalid")
