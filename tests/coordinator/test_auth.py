"""Tokens of sites and operators: each way of being wrong has its own answer."""

from __future__ import annotations

from uuid import UUID, uuid4

import jwt
import pytest
from sqlalchemy import func, select, update

from coordinator.store import operators, sites
from coordinator.store.tables import Base, Operator, SeenToken, Site
from crypto.identity import Identity


@pytest.fixture
def site(world):
    return world.new_site("hospital-x")


@pytest.fixture
def call(world):
    return lambda token: world.call("GET", "/v1/studies", headers={"Authorization": f"Bearer {token}"})


def test_a_token_is_good_once(site, call, refused) -> None:
    token = site.token()
    assert call(token).status_code == 200
    refused(call(token), 401, "token-replayed")
    assert call(site.token()).status_code == 200


def test_no_token(world, refused) -> None:
    answer = world.call("GET", "/v1/studies")
    refused(answer, 401, "token-missing")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "pleura-operator-wrong", "eyJhbGciOiJub25lIn0.e30."])
def test_tokens_of_nobody(call, refused, token: str) -> None:
    refused(call(token), 401, "token-invalid")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iat": -400, "exp": -340}, "token-expired"),
        ({"iat": 300, "exp": 340}, "token-expired"),
        ({"exp": 61}, "token-expired"),
    ],
)
def test_lifetimes(world, site, call, refused, changes: dict[str, float], code: str) -> None:
    now = world.clock.now()
    refused(call(site.token(**{claim: now + offset for claim, offset in changes.items()})), 401, code)


def test_a_token_expires_as_time_goes_by(world, site, call, refused) -> None:
    token = site.token()
    world.clock.advance(66)
    document = refused(call(token), 401, "token-expired")
    assert document["time"] == world.clock.now()


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": str(UUID(int=7))},
        {"iss": str(UUID(int=7))},
        {"sub": str(UUID(int=7))},
        {"jti": ""},
        {"jti": "x" * 65},
        {"jti": 5},
        {"exp": "soon"},
        {"iat": None},
    ],
    ids=str,
)
def test_wrong_claims(site, call, refused, changes) -> None:
    refused(call(site.token(**changes)), 401, "token-invalid")


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "iat", "exp", "jti"])
def test_missing_claims(site, call, refused, claim: str) -> None:
    claims = site.claims()
    del claims[claim]
    token = jwt.encode(claims, site.identity.private_key, "EdDSA", headers={"kid": str(site.id)})
    document = refused(call(token), 401, "token-invalid")
    assert claim in document["detail"]


def test_another_sites_key(site, call, refused) -> None:
    refused(call(site.token(Identity.generate())), 401, "token-invalid")


def test_another_algorithm_with_the_public_key_as_secret(site, call, refused) -> None:
    """The classic confusion: HS256 under what everybody knows."""
    key = site.identity.public.signing_key
    refused(call(jwt.encode(site.claims(), key, "HS256", headers={"kid": str(site.id)})), 401, "token-invalid")


def test_a_forged_token_does_not_use_up_an_id(world, site, call, refused) -> None:
    refused(call(site.token(Identity.generate(), jti="mine")), 401, "token-invalid")
    assert call(site.token(jti="mine")).status_code == 200


def test_suspended_sites_are_refused(world, site, call, refused) -> None:
    now = world.clock.now()
    world.services.store.run("suspend", lambda s: sites.set_suspended(s, site.name, True, "operator:test", now))
    refused(call(site.token()), 403, "site-suspended")
    world.services.store.run("admit", lambda s: sites.set_suspended(s, str(site.id), False, "operator:test", now))
    assert call(site.token()).status_code == 200


def test_suspended_between_reading_the_site_and_noting_its_token(world, site, call, refused) -> None:
    """By another process, say: this one knows the site from an earlier call."""
    assert call(site.token()).status_code == 200
    stale = world.services.known_sites[site.id]
    world.services.store.run("suspend", lambda s: s.execute(update(Site).values(state="suspended")))
    assert stale.state == "active"
    refused(call(site.token()), 403, "site-suspended")
    world.services.store.run("admit", lambda s: s.execute(update(Site).values(state="active")))
    assert call(site.token()).status_code == 200


def test_new_keys_count_at_once(world, site, call, refused) -> None:
    old, new = site.identity, Identity.generate()
    assert call(site.token()).status_code == 200
    key = new.public.signing_key.hex()
    world.services.store.run("renew", lambda s: s.execute(update(Site).values(signing_key=key)))
    refused(call(site.token(old)), 401, "token-invalid")
    assert call(site.token(new)).status_code == 200


def test_used_ids_are_forgotten_when_they_cannot_be_replayed(world, site, call) -> None:
    for _ in range(5):
        call(site.token())
        world.clock.advance(70)
    call(site.token())
    count = world.services.store.read("count", lambda s: s.scalar(select(func.count()).select_from(SeenToken)))
    assert count == 1


def test_a_call_shows_that_the_site_is_there(world, site, call) -> None:
    world.clock.advance(1000)
    call(site.token())
    assert world.services.store.read("site", lambda s: sites.get(s, site.id)).last_seen == world.clock.now()


def test_roles(world, site, refused) -> None:
    invite = {"json": {"note": "", "hours": 1}}
    assert world.operate("POST", "/v1/invitations", **invite).status_code == 201
    refused(world.operate("POST", "/v1/invitations", world.auditor, **invite), 403, "role-missing")
    refused(site.call("POST", "/v1/invitations", **invite), 403, "role-missing")
    assert world.operate("GET", "/v1/sites", world.auditor).status_code == 200
    refused(site.call("GET", "/v1/sites"), 403, "role-missing")
    refused(world.operate("PUT", f"/v1/studies/{uuid4()}/membership"), 403, "role-missing")


def test_revoked_and_expired_operators(world, call, refused) -> None:
    now = world.clock.now()
    world.services.store.run("revoke", lambda s: operators.revoke(s, "anna", "operator:test", now))
    refused(call(world.operator), 401, "token-invalid")

    def expire(session) -> None:
        session.get_one(Operator, "zoe").expires = now + 10

    world.services.store.run("expire", expire)
    assert call(world.auditor).status_code == 200
    world.clock.advance(10)
    refused(call(world.auditor), 401, "token-invalid")


def test_the_database_has_hashes_only(world) -> None:
    invitation = world.invitation()
    tables = Base.metadata.sorted_tables
    stored = world.services.store.read("all", lambda s: repr([list(s.execute(table.select())) for table in tables]))
    assert "anna" in stored
    for secret in (world.operator, world.auditor, invitation):
        assert secret not in stored
