"""Text that a database refuses, and numbers that it cannot hold: a problem document, never an error of ours."""

from __future__ import annotations

from typing import Any

import pytest

from crypto.canonical import sha256

AWKWARD = {"NUL": "a\0b", "escape": "a\x1b[2Jb", "newline": "a\nb", "half a surrogate pair": "a\ud800b"}


@pytest.fixture(params=AWKWARD, ids=list(AWKWARD))
def awkward(request: pytest.FixtureRequest) -> str:
    return AWKWARD[request.param]


def spelt(text: str) -> str:
    """As JSON spells it, surrogates too."""
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


def ask(world: Any, path: str, body: str) -> Any:
    return world.operate("POST", path, content=body.encode())


def test_names_and_notes(world, refused, awkward: str) -> None:
    world.create_study()
    text, model = spelt(awkward), sha256(world.model)
    for path, body in (
        ("/v1/studies", f'{{"name": "{text}", "model": "{model}"}}'),
        ("/v1/invitations", f'{{"note": "{text}"}}'),
        ("/v1/operators", f'{{"name": "{text}"}}'),
        ("/v1/webhooks", f'{{"url": "https://example.org/{text}"}}'),
    ):
        refused(ask(world, path, body), 422, "request-invalid")


def test_addresses_and_queries(world, refused) -> None:
    for path in ("/v1/sites?name=a%00b", "/v1/studies?name=a%00b", "/v1/audit?actor=a%00b", "/v1/audit?action=a%00b"):
        refused(world.operate("GET", path), 422, "request-invalid")
    refused(world.operate("DELETE", "/v1/operators/a%00b"), 422, "request-invalid")


def test_token_ids(world, refused, awkward: str) -> None:
    site = world.new_site("hospital-x")
    answer = world.call("GET", "/v1/studies", headers={"Authorization": f"Bearer {site.token(jti=awkward)}"})
    refused(answer, 401, "token-invalid")


@pytest.mark.parametrize("number", [2**31, 2**63, 10**30])
def test_numbers_in_addresses(world, refused, number: int) -> None:
    world.begin()
    site = world.sites[0]
    for path in (f"{world.study}/rounds/{number}/1/plan", f"{world.study}/rounds/1/{number}/plan"):
        refused(site.call("GET", path), 422, "request-invalid")
    refused(site.put(f"{world.attempt}/parts/{number}", b"x"), 422, "request-invalid")
    refused(world.operate("GET", f"/v1/audit?after={number}"), 422, "request-invalid")
    wish = {"name": "s", "from_study": str(world.study_id), "from_round": number}
    refused(world.operate("POST", "/v1/studies", json=wish), 422, "request-invalid")
