"""Octets that travel: shares, envelopes, CKKS contexts, key parts, bodies; tokens and headers; and what is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

import httpx
import jwt
import numpy as np
import pytest
from fuzz_federation import LAYOUT, SITES, STUDY, federation
from fuzz_format import Format
from fuzz_mutations import spoil_bytes, spoil_json
from jwt.utils import base64url_encode

from coordinator import auth
from coordinator.api import bodies, models
from coordinator.errors import CoordinatorError
from crypto import envelope, shamir
from crypto.canonical import canonical
from crypto.ckks_public import PublicContext, add, check_key_part
from crypto.ckks_secret import SecretContext
from crypto.errors import CryptoError, Malformed
from crypto.identity import PublicIdentity
from crypto.lwe import draw_secret
from crypto.manifest import Ballot, Opening, ShareOpening
from crypto.parameters import N
from crypto.plan import Plan
from crypto.schemes import SCHEMES, Recipients
from crypto.schemes.opening import open_bodies
from crypto.schemes.shares import SHARE_LABEL
from participant.session import Problem, Session

_CONTEXT: Final = "cd" * 32
_NOW: Final = 1_700_000_000.0
_CLIENT: Final = httpx.Client()

# A context of degree 32,768 with 29 moduli of 30 bits and no keys, as TenSEAL 0.3.18 writes it: SEAL's tables for it
# take a gigabyte.
_VAST_CONTEXT: Final = bytes.fromhex(
    "0a88015ea1100403020000880000000000000028b52ffd60e1017503009403020080001d005ea110040300000018000100c1"
    "3ed0d3d6e6f4f8133f31393a3f54555a5d6163768287acafb1bbd2deedfc00000000000000002120f095039fd457b35aeaab"
    "592df5d5ac96f5d5ac96fa6a564b7d35aba5be9a555a2df5d5ac96fa56cd9bdcd29281065f9e08120b100719000000000000"
    "d041"
)


def formats() -> Iterator[Format]:
    here = federation()
    share = shamir.write_share(shamir.split(draw_secret(), 2, [1, 2])[1])
    yield _octets("share", (share,), shamir.read_share)
    yield _octets("sealed share", (_sealed(share), _sealed(b"")), _open_envelope)
    yield _octets("public identity", tuple(map(_keys, here.identities.values())), _seal_to)
    yield _octets("shares, combined", (_dealt(),), _combine, 1)
    contexts = here.dealt.public_context, here.dealt.secret.secret_bytes()
    yield _octets("public context", (contexts[0],), PublicContext.load, others=(*contexts, _VAST_CONTEXT))
    yield _octets("secret context", (contexts[1],), SecretContext.load, 3, others=(*contexts, _VAST_CONTEXT))
    yield _octets("key part", _key_parts(), _check_key_part, 20, others=contexts)
    yield _octets("key parts, added", _key_parts(), _add_key_parts)
    yield _octets("key parts, opened", _key_parts(), _open_key_parts)
    yield from map(_parts, SCHEMES)
    yield Format("opening, revealed", (_opening().encode(),), _reveal, (CryptoError,), spoil_json, 3)
    total = _round("ckks").total
    yield _octets("summed body, opened", (total,), _open_body, 3, others=_round("ckks").parts)
    yield _octets("opened body, revealed", (_open_body(total),), _reveal_body, 3)
    yield Format("token", (_token(),), _verify, (CoordinatorError,), spoil_bytes)
    yield Format("token's claims", (canonical(_CLAIMS),), _verify_claims, (CoordinatorError,), spoil_json)
    yield Format("Content-Digest", (b"sha-256=:" + b"A" * 43 + b"=:",), _announced, (CoordinatorError,), spoil_bytes)
    yield Format("Range", (b"bytes=3-10", b"bytes=-7"), _range, (CoordinatorError,), spoil_bytes)
    problem = b'{"code":"round-closed","detail":"Late."}'
    yield Format("problem document", (problem,), _problem, (), spoil_json)
    yield Format("problem headers", (b"Tue, 14 Nov 2023 22:13:20 GMT", b"120"), _headers, (), spoil_bytes)


def _octets(
    name: str,
    seeds: tuple[bytes, ...],
    read: Callable[[bytes], object],
    weight: int = 10,
    others: tuple[bytes, ...] = (),
) -> Format:
    def spoil(data: bytes, tape: Any, _: Any) -> bytes:
        return spoil_bytes(data, tape, (*seeds, *others))

    return Format(name, seeds, read, (CryptoError,), spoil, weight)


# --- envelopes, identities, shares


def _sealed(plaintext: bytes) -> bytes:
    public = federation().identities[SITES[1]].public
    return envelope.seal(public, plaintext, SHARE_LABEL, _CONTEXT, SITES[0], SITES[1])


def _open_envelope(data: bytes) -> None:
    plaintext = envelope.open(federation().identities[SITES[1]], data, SHARE_LABEL, _CONTEXT, SITES[0], SITES[1])
    assert len(plaintext) in (0, shamir.SHARE_BYTES), "a changed envelope opens"


def _keys(identity: Any) -> bytes:
    return bytes(identity.public.signing_key + identity.public.hpke_key)


def _seal_to(data: bytes) -> None:
    public = PublicIdentity.from_hex(data[:32].hex(), data[32:].hex())
    assert len(public.words.split("-")) == 12
    envelope.seal(public, b"content", SHARE_LABEL, _CONTEXT, SITES[0], SITES[1])


def _dealt() -> bytes:
    shares = shamir.split(draw_secret(), 3, [1, 2, 3])
    return b"".join(map(shamir.write_share, shares.values()))


def _combine(data: bytes) -> None:
    """Three answers under lwe-shamir, one after the other."""
    here = federation()
    step = len(data) // 3
    answers = [
        ShareOpening(ballot="ab" * 32, site=site, share_sum=tuple(shamir.read_share(data[at : at + step]).tolist()))
        for site, at in zip(SITES, range(0, 3 * step, step or 1), strict=False)
    ]
    SCHEMES["lwe-shamir"].combine(here.plan_for("lwe-shamir"), here.roster, answers)


# --- bodies, and what a ballot opens to, under every scheme


@dataclass(frozen=True)
class _Round:
    """Two contributions under one scheme, added up."""

    plan: Plan
    parts: tuple[bytes, ...]
    total: bytes
    key_parts: tuple[bytes, ...]


@cache
def _round(name: str) -> _Round:
    plan, ours, public = federation().plan_for(name), SCHEMES[name], _public()
    to = Recipients(federation().roster, SITES[0]) if name == "lwe-shamir" else public
    update, counts = np.zeros(LAYOUT.size, np.float32), [1] * LAYOUT.counts_size
    adder, parts, key_parts = ours.adder(plan, LAYOUT, 0, public), [], []
    for _ in range(2):
        sealed = ours.seal(plan, LAYOUT, update, 5, counts, to)
        (part,) = map(bytes, sealed)  # the layout is small: all is in one part
        adder.add(part)
        parts.append(part)
        key_parts.extend(sealed.key_parts)
    return _Round(plan, tuple(parts), bytes(adder.total()), tuple(key_parts))


def _parts(name: str) -> Format:
    played, public = _round(name), _public()

    def read(data: bytes) -> None:
        SCHEMES[name].check_part(played.plan, LAYOUT, 0, data, public)
        adder = SCHEMES[name].adder(played.plan, LAYOUT, 0, public)
        adder.add(played.parts[0])
        adder.add(data)
        assert len(adder.total()) <= SCHEMES[name].part_sizes(played.plan, LAYOUT)[0]

    return _octets(f"part of {name}", played.parts, read, 5)


def _opening() -> Opening:
    secret_sum = federation().dealt.secret.decrypt_sum(_round("lwe-ckks").key_parts)
    return Opening(ballot="ab" * 32, site=SITES[0], secret_sum=tuple(secret_sum.tolist()))


def _reveal(data: bytes) -> None:
    played, opening = _round("lwe-ckks"), Opening.decode(data)
    _revealed("lwe-ckks", played.total, opening.secret_sum)


def _open_body(data: bytes) -> bytes:
    """What an opener makes of the sum that it is served."""
    played, secret = _round("ckks"), federation().dealt.secret
    signed = federation().ballot.manifests[:2]
    ballot = Ballot(plan=played.plan.digest, manifests=signed)
    return b"".join(open_bodies(played.plan, LAYOUT, ballot, [data], secret))


def _reveal_body(data: bytes) -> None:
    """An opened part, which the coordinator takes in one size only."""
    if [len(data)] != [*SCHEMES["ckks"].opened_sizes(_round("ckks").plan, LAYOUT)]:
        raise Malformed("another size")
    _revealed("ckks", data, ())


def _revealed(name: str, total: bytes, secret_sum: tuple[int, ...]) -> None:
    revealed = SCHEMES[name].reveal(_round(name).plan, LAYOUT, [total], secret_sum, 2)
    assert revealed.mean is not None
    assert np.isfinite(revealed.mean).all()


# --- CKKS


@cache
def _public() -> PublicContext:
    return PublicContext.load(federation().dealt.public_context)


@cache
def _key_parts() -> tuple[bytes, ...]:
    return tuple(_public().encrypt(np.full(N, number)) for number in (0, 3, -32))


def _check_key_part(data: bytes) -> None:
    check_key_part(_public(), data)


def _add_key_parts(data: bytes) -> None:
    add(_public(), [_key_parts()[0], data, _key_parts()[1]])


def _open_key_parts(data: bytes) -> None:
    secret = federation().dealt.secret
    assert np.abs(secret.decrypt_sum([data, _key_parts()[0]])).max() <= 64


# --- headers, tokens and problem documents


_SITE: Final = UUID(int=9)


_CLAIMS: Final = {"aud": str(STUDY), "exp": _NOW + 50, "iat": _NOW, "iss": str(_SITE), "jti": "a", "sub": str(_SITE)}


def _token() -> bytes:
    key = federation().identities[SITES[0]].private_key
    return jwt.encode(_CLAIMS, key, "EdDSA", {"kid": str(_SITE)}).encode()


def _verify(data: bytes) -> None:
    token = data.decode("latin-1")
    site = SimpleNamespace(id=_SITE, signing_key=federation().roster.members[0].signing_key)
    auth._key_id(token)
    auth.verify_token(token, site, STUDY, _NOW)  # type: ignore[arg-type]


def _verify_claims(data: bytes) -> None:
    """A token that its site did sign, with whatever in it."""
    head = canonical({"alg": "EdDSA", "kid": str(_SITE), "typ": "JWT"})
    signed = b".".join(map(base64url_encode, (head, data)))
    signature = federation().identities[SITES[0]].sign_bytes(signed)
    _verify(b".".join((signed, base64url_encode(signature))))


def _announced(data: bytes) -> None:
    assert len(bodies._announced(data.decode("latin-1"))) == 64


def _range(data: bytes) -> None:
    asked = models._range({"range": data.decode("latin-1")}, "tag", 1000)
    assert asked is None or 0 <= asked[0] < asked[1] <= 1000


def _problem(data: bytes) -> None:
    _check(httpx.Response(409, content=data, headers={"Retry-After": "5"}))


def _headers(data: bytes) -> None:
    headers = [(b"Date", data), (b"Retry-After", data)]
    _check(httpx.Response(401, content=b"no", headers=headers))


def _check(response: httpx.Response) -> None:
    response.request = httpx.Request("GET", "http://coordinator/v1/status")
    session = Session(_CLIENT, clock=lambda: _NOW)
    with pytest.raises(Problem) as read:  # what is read is always a problem
        session._check(response)
    assert (read.value.retry_after or 0.0) <= 3600.0
