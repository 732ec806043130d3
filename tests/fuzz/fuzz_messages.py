"""Everything that travels as JSON: messages of every kind, what an agent is answered, what the coordinator is asked."""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import random
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from fastapi import FastAPI
from fuzz_federation import LAYOUT, SITES, STUDY, federation
from fuzz_format import Format
from fuzz_mutations import spoil_json
from fuzz_schema import valid
from pydantic import BaseModel, TypeAdapter

import crypto
from coordinator import problems
from coordinator.api import bodies, wishes
from crypto import checks
from crypto.canonical import canonical, parse
from crypto.epoch import Approval, WrapAddition
from crypto.errors import CryptoError, Malformed
from crypto.identity import verify
from crypto.layout import Layout
from crypto.manifest import Ballot, Manifest, Opening, Refusal, Vote
from crypto.parameters import N
from crypto.plan import Roster
from crypto.wire import Message, Signed
from participant import documents

T = TypeVar("T", bound=type)
_SEEDS: Final = 6
_RECIPE: Final = {"name": "tiny", "network": {"classes": 2}, "federation": {"rounds": 2, "fraction": 1.0}}
_KNOWN: Final = {"layout": LAYOUT.to_json(), "recipe": _RECIPE}


def formats() -> Iterator[Format]:
    for kind in message_kinds():
        yield from _message(kind)
    yield from _checked()
    for each in _answers():
        yield _answer(each)
    for request in subclasses(wishes.Request):
        yield _request(request)
    layout = canonical(LAYOUT.to_json())
    yield Format("layout", (layout,), _read_layout, (Malformed,), spoil_json, 30)


def subclasses(base: T) -> list[T]:
    """All of them, in an order that is the same in every run."""
    found = {kind for child in base.__subclasses__() for kind in (child, *subclasses(child))}
    return sorted(found, key=lambda kind: kind.__name__)


def message_kinds() -> list[type[Message]]:
    """Every kind of message that any module of `crypto` defines."""
    for module in pkgutil.walk_packages(crypto.__path__, "crypto."):
        importlib.import_module(module.name)
    kinds = subclasses(Message)
    return [kind for kind in kinds if not issubclass(kind, Signed) and kind.__module__.startswith("crypto.")]


def _seeds(name: str, schema: dict[str, Any], accepts: Callable[[Any], object]) -> tuple[bytes, ...]:
    chance = random.Random(name)
    made = [valid(schema, accepts, (Malformed, ValueError), chance, _KNOWN) for _ in range(_SEEDS)]
    return tuple(map(canonical, made))


def _message(kind: type[Message]) -> Iterator[Format]:
    name, signed = kind.__name__, Signed[kind]  # type: ignore[valid-type]
    seeds = _seeds(name, kind.model_json_schema(), kind.from_json)
    signatures = [b'{"message":%s,"signature":"%s"}' % (seed, b"ab" * 64) for seed in seeds]
    long = max(map(len, seeds)) > 2 * N
    weight = 3 if long else 10
    yield Format(f"{name}.decode", seeds, _decoder(kind), (Malformed,), spoil_json, 2 * weight)
    yield Format(f"Signed[{name}].decode", tuple(signatures), _decoder(signed), (Malformed,), spoil_json, weight)
    yield Format(f"body Signed[{name}]", tuple(signatures), _body_reader(kind), (Malformed,), spoil_json, weight)


def _decoder(kind: type[Message]) -> Callable[[bytes], object]:
    def read(data: bytes) -> None:
        message = kind.decode(data)
        assert message.encode() == data, "two spellings of one message"
        assert len(message.digest) == 64

    return read


class _Body:
    """As much of a request as reading its body takes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def body(self) -> bytes:
        return self._data


def _body_reader(kind: type[Message]) -> Callable[[bytes], object]:
    reader = bodies.signed(kind).dependency
    return lambda data: _driven(reader(_Body(data)))


def _driven(coroutine: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    raise AssertionError("it waits")


def _read_layout(data: bytes) -> None:
    layout = Layout.from_json(parse(data))
    assert canonical(layout.to_json()) == data, "two spellings of one layout"
    assert layout.size > 0


# --- what is signed is either as it was signed or refused


def _checked() -> Iterator[Format]:
    here = federation()
    digest, site = here.ballot.digest, SITES[0]
    wrap = here.dealt.record.message.wraps[0]
    addition = WrapAddition(epoch=here.dealt.record.message.digest, holder=site, wrap=wrap)
    approval = Approval(study=STUDY, site=site, peers={str(SITES[1]): "ab" * 32})
    refusal = Refusal(site=site, step="ballot", about=digest, code="no", words="No.")
    opening = Opening(ballot=digest, site=site, secret_sum=tuple(range(N)))
    record, roster = here.dealt.record, here.roster
    yield _genuine(here.ballot.manifests[0], Manifest, lambda signed: checks.check_manifest(signed, here.plan, roster))
    yield _genuine(
        here.sign(Vote(ballot=digest, site=site)), Vote, lambda signed: checks.check_reply(signed, digest, roster)
    )
    yield _genuine(here.sign(opening), Opening, lambda signed: checks.check_reply(signed, digest, roster), 3)
    yield _genuine(here.sign(refusal), Refusal, lambda signed: verify(here.identities[site].public, signed))
    yield _genuine(here.sign(approval), Approval, lambda signed: checks.check_approval(signed, roster))
    yield _genuine(record, type(record.message), lambda signed: checks.check_epoch(signed, roster))
    yield _genuine(
        here.sign(addition), WrapAddition, lambda signed: checks.check_addition(signed, record.message, roster)
    )
    yield Format("check_ballot", (here.ballot.encode(),), _read_ballot, (CryptoError,), spoil_json, 30)
    yield Format("check_roster", (roster.encode(),), _read_roster, (CryptoError,), spoil_json, 10)


def _genuine(signed: Signed[Any], kind: type[Message], check: Callable[[Any], Any], weight: int = 10) -> Format:
    def read(data: bytes) -> None:
        assert check(Signed[kind].decode(data)) == signed.message, "a changed message verifies"  # type: ignore[valid-type]

    return Format(f"checked {kind.__name__}", (signed.encode(),), read, (CryptoError,), spoil_json, weight)


def _read_ballot(data: bytes) -> None:
    here, ballot = federation(), Ballot.decode(data)
    own = here.ballot.manifests[0].message
    checked = checks.check_ballot(ballot, here.plan, here.roster, SITES[0], own, 2)
    assert set(ballot.manifests) <= set(here.ballot.manifests), "a manifest that nobody signed"
    assert len(checked.contributors) >= 2
    assert checked.own_missing == (SITES[0] not in checked.contributors)


def _read_roster(data: bytes) -> None:
    here, roster = federation(), Roster.decode(data)
    plan = here.plan.model_copy(update={"roster": roster.digest})
    checks.check_roster(plan, roster)
    checks.votes_needed(roster)


# --- what an agent is answered


def _answers() -> list[Any]:
    kinds = subclasses(documents.Document)
    return [*kinds, *(list[kind] for kind in kinds), Roster, Ballot, list[Signed[Vote]]]


def _answer(kind: Any) -> Format:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    name = getattr(kind, "__name__", "") if isinstance(kind, type) else str(kind).replace("participant.documents.", "")

    def read(data: bytes) -> None:
        value = documents.read(adapter, data)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, documents.Study):
                each.layout_value()

    def accepts(value: Any) -> None:
        read(json.dumps(value).encode())

    seeds = _seeds(name, adapter.json_schema(), accepts)
    return Format(f"answer {name}", seeds, read, (Malformed,), spoil_json, 10)


# --- what the coordinator is asked, through FastAPI's own parser and the coordinator's table of problems


def _request(kind: type[BaseModel]) -> Format:
    app = FastAPI()
    problems.install(app)

    async def take(wish: Any) -> None:
        return None

    take.__annotations__["wish"] = kind
    app.post("/")(take)
    seeds = _seeds(kind.__name__, kind.model_json_schema(), kind.model_validate)
    return Format(f"request {kind.__name__}", seeds, lambda data: _post(app, data), (_Refused,), spoil_json, 5)


class _Refused(Exception):
    """The app answered with a problem document that blames the caller."""


def _post(app: FastAPI, data: bytes) -> None:
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers, "root_path": ""}
    asyncio.run(app(scope, receive, send))
    status = answers[0]["status"]
    assert status < 500, "an error of its own"
    if status != 200:
        assert json.loads(answers[1]["body"])["status"] == status
        raise _Refused
