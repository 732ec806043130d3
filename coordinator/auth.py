"""Who is calling: sites by tokens they sign for one request, operators by tokens they were given, people by a session.

A site's token is an EdDSA JWT (the private_key_jwt idea of RFC 7523): its signature shows the key, its audience this
coordinator, its id that it is not a copy of one used before.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from coordinator import logs
from coordinator.errors import (
    RoleMissing,
    SiteSuspended,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    Unauthenticated,
)
from coordinator.services import Services, address_of, services_of
from coordinator.store import operators, sites
from coordinator.store.tables import Operator, Role, Site

LIFETIME: Final = 60.0  # seconds a site's token may live
LEEWAY: Final = 5.0  # seconds that two clocks may differ
_JTI_LIMIT: Final = 64
_LATEST: Final = 2.0**53  # Unix seconds; beyond, an integer may be larger than any float
_CLAIMS: Final = ("iss", "sub", "aud", "iat", "exp", "jti")

bearer = HTTPBearer(auto_error=False, description="A site's JWT, or an operator's token (docs/wire.md).")


@dataclass(frozen=True, slots=True)
class Caller:
    """A site, or an operator. `actor` is how the audit log names it."""

    site: Site | None
    operator: Operator | None

    @property
    def actor(self) -> str:
        return f"site:{self.site.id}" if self.site else f"operator:{self.operator.name if self.operator else '?'}"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    jti: str
    expires: float


def caller(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> Caller:
    """Whoever the bearer token belongs to.

    Raises:
        Unauthenticated: nobody, or it is not good now.
        SiteSuspended: to a site that may not call.
        RateLimited: after many requests of this caller, or many refused ones from this address.
    """
    address = address_of(request)
    if credentials is None:
        logs.note(address=address)
        raise TokenMissing("Send `Authorization: Bearer` with a site's JWT or an operator's token.")
    services = services_of(request)
    try:
        found = _whose(services, credentials.credentials)
    except Unauthenticated:
        # Counted after the fact: tokens are too long to guess, and a hospital behind the same address has done nothing.
        logs.note(address=address)
        services.strangers.take(address)
        raise
    logs.note(caller=found.actor)
    return found


def _whose(services: Services, token: str) -> Caller:
    if token.count(".") == 2:  # a JWT has three pieces, an operator's token has one
        return Caller(_site(services, token), None)
    return Caller(None, _operator(services, token))


def _operator(services: Services, token: str) -> Operator:
    now = services.clock.now()
    operator = services.store.read("find operator", lambda session: operators.find(session, token, now))
    if operator is None:
        raise TokenInvalid("Nobody here was given this operator's token, or it was revoked or has expired.")
    services.requests.take(f"operator:{operator.name}")
    return operator


def _site(services: Services, token: str) -> Site:
    """The site whose token it is, after noting that the token is used up.

    A site's row is read once: the statement that notes a token says whether it still holds.
    """
    site_id = _key_id(token)
    known = services.known_sites.get(site_id)
    if known is not None:
        with suppress(TokenInvalid, SiteSuspended, sites.Changed):  # it may have new keys, or be admitted again
            return _admitted(services, token, known)
    site = services.store.read("find site", lambda session: sites.get(session, site_id))
    if site is None:
        raise TokenInvalid(f"No site {site_id} is enrolled here. Check the coordinator's address, or enrol.")
    services.known_sites[site_id] = site
    try:
        return _admitted(services, token, site)
    except sites.Changed as changed:
        raise TokenInvalid("The site's keys or state have just changed. Try again, with a new token.") from changed


def _admitted(services: Services, token: str, site: Site) -> Site:
    """The site, if it may call with this token, which is then used up.

    Raises:
        Changed: `site` is not as its row is now.
    """
    now = services.clock.now()
    claims = verify_token(token, site, services.coordinator, now)
    if site.state == "suspended":
        raise SiteSuspended(f"The operator suspended the site {site.name!r}. Ask the operator why.")
    services.requests.take(f"site:{site.id}")  # before anything is written for it
    expires = claims.expires + LEEWAY
    if services.store.note("use token", lambda session: sites.use_token(session, site, claims.jti, expires, now)):
        site.last_seen = now
    return site


def verify_token(token: str, site: Site, coordinator: UUID, now: float) -> Claims:
    """The claims of a token that `site` signed for this coordinator and that is within its lifetime.

    Raises:
        TokenInvalid: another signature, audience or issuer, or a claim is missing.
        TokenExpired: not now, or with a lifetime above 60 s.
    """
    try:
        claims = jwt.decode(
            token,
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(site.signing_key)),
            algorithms=["EdDSA"],
            audience=str(coordinator),
            issuer=str(site.id),
            # Times are compared below, with our clock: the library would ask the system's.
            options={"require": list(_CLAIMS), "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except jwt.InvalidAudienceError as error:
        raise TokenInvalid(f"This token is for another coordinator; this one is {coordinator}.") from error
    except jwt.MissingRequiredClaimError as error:
        raise TokenInvalid(f"This token lacks a claim: {error.claim}.") from error
    except jwt.InvalidTokenError as error:
        raise TokenInvalid(
            "This token does not verify under the key that the site enrolled with last. If it enrolled again, "
            "its former home folder is of no use any more."
        ) from error
    _check_claims(claims, site, now)
    return Claims(claims["jti"], float(claims["exp"]))


def _check_claims(claims: dict[str, Any], site: Site, now: float) -> None:
    issued, expires, jti = claims["iat"], claims["exp"], claims["jti"]
    spelt = isinstance(jti, str) and jti.isprintable()  # the database keeps no NUL and no half of a surrogate pair
    if claims["sub"] != str(site.id) or not spelt or not 1 <= len(jti) <= _JTI_LIMIT:
        raise TokenInvalid(f"A token's sub is the site's id, and its jti a text of 1 to {_JTI_LIMIT} letters.")
    if not all(isinstance(time, int | float) and abs(time) < _LATEST for time in (issued, expires)):
        raise TokenInvalid("A token's iat and exp are numbers, in Unix seconds.")
    if expires - issued > LIFETIME:
        raise TokenExpired(f"A token lives at most {LIFETIME:.0f} s, this one {expires - issued:.0f} s.")
    if not issued - LEEWAY <= now <= expires + LEEWAY:
        raise TokenExpired(
            f"This token is good from {issued:.0f} to {expires:.0f}, and it is {now:.0f} here. "
            "Sign a new one; if that is refused too, compare the two machines' clocks.",
            {"time": now},
        )


def _key_id(token: str) -> UUID:
    try:
        return UUID(jwt.get_unverified_header(token).get("kid", ""))
    except (jwt.InvalidTokenError, ValueError, AttributeError, TypeError) as error:
        raise TokenInvalid("This is no JWT with a site's id as its kid.") from error


AnyCaller = Annotated[Caller, Depends(caller)]


# Async, as all that only looks at what is there: FastAPI would have a thread for each, and passing a request on to one
# costs more than the looking.


async def site_caller(caller: AnyCaller) -> Site:
    """A site; operators are refused."""
    if caller.site is None:
        raise RoleMissing("This call is for sites; operators have calls of their own.")
    return caller.site


async def operator_caller(caller: AnyCaller) -> Operator:
    """An operator of role operator."""
    return _with_role(caller, ("operator",))


async def auditor_caller(caller: AnyCaller) -> Operator:
    """An operator of either role: reading only."""
    return reader(caller)


def reader(caller: Caller) -> Operator:
    """The same, to be called.

    Raises:
        RoleMissing: a site calls.
    """
    return _with_role(caller, ("operator", "auditor"))


def _with_role(caller: Caller, roles: tuple[Role, ...]) -> Operator:
    if caller.operator is None:
        raise RoleMissing("This call is for the coordinator's operators, not for sites.")
    if caller.operator.role not in roles:
        raise RoleMissing(f"This call needs the role {roles[0]}; {caller.operator.name!r} is {caller.operator.role}.")
    return caller.operator


CallingSite = Annotated[Site, Depends(site_caller)]
CallingOperator = Annotated[Operator, Depends(operator_caller)]
CallingAuditor = Annotated[Operator, Depends(auditor_caller)]
