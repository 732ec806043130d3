"""What the OpenAPI document says beyond what FastAPI finds by itself: signed messages, problems, examples, names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema

from coordinator import errors
from coordinator.api.bodies import OCTETS
from coordinator.api.examples import ANSWERS, MESSAGES
from coordinator.problems import MEDIA_TYPE, PROBLEMS, Problem
from crypto.errors import CryptoError, Malformed
from crypto.wire import Message, Signed

TAGS: Final = [
    {"name": "service", "description": "Who this coordinator is, and how it is doing."},
    {"name": "operators", "description": "People and scripts with tokens."},
    {"name": "enrolment", "description": "How sites get in."},
    {"name": "studies", "description": "Studies: their life, their members, how their rounds went."},
    {"name": "keys", "description": "A study's keys: who deals them, and how they reach every member."},
    {"name": "rounds", "description": "What a site has to do now, and the documents of an attempt at a round."},
    {"name": "contributions", "description": "Uploading an encrypted contribution, part by part."},
    {"name": "answers", "description": "What sites say to a ballot, and what opens its sum."},
    {"name": "outcomes", "description": "Rounds whose sum only the members open: what each of them derived."},
    {"name": "spot checks", "description": "Members that open a part of a published model themselves."},
    {"name": "site evaluations", "description": "A site's own figures, where its policy shares them."},
    {"name": "models", "description": "Model files: up, down, and sealed from member to member."},
    {"name": "audit", "description": "The hash-chained log of everything that changed."},
    {"name": "webhooks", "description": "Telling another service that a round or a study ended."},
]

# What a call may answer beside its own, as it needs a token, takes a body or parameters, or writes.
_WITH_TOKEN: Final = (
    errors.TokenMissing,
    errors.TokenInvalid,
    errors.TokenExpired,
    errors.TokenReplayed,
    errors.RoleMissing,
    errors.SiteSuspended,
    errors.RateLimited,
    errors.Busy,
)
_WRITES: Final = ("post", "put", "patch", "delete")
GENERAL: Final = frozenset(
    PROBLEMS[kind].code for kind in (*_WITH_TOKEN, errors.RequestInvalid, errors.TooLarge, Malformed, errors.DiskFull)
)


class ProblemDocument(BaseModel):
    """RFC 9457. Programs branch on `code`; some problems carry fields of their own."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str


def operation_id(route: APIRoute) -> str:
    """A name for generated clients that no change of an address alters: the tag and the function."""
    return f"{route.tags[0] if route.tags else 'page'}-{route.name}".replace(" ", "-").replace("_", "-")


def takes(*kinds: type[Message]) -> dict[str, Any]:
    """`openapi_extra` of a call that takes Signed[kind] of one of these kinds."""
    references = [{"$ref": f"#/components/schemas/Signed_{kind.__name__}"} for kind in kinds]
    content = {
        "schema": references[0] if len(kinds) == 1 else {"anyOf": references},
        "example": {"message": MESSAGES[kinds[0]], "signature": "00" * 64},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def takes_octets() -> dict[str, Any]:
    """`openapi_extra` of a call that takes bytes."""
    return {"requestBody": {"required": True, "content": {OCTETS: {"schema": _BYTES}}}}


def gives_octets(description: str, headers: Mapping[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """`responses` of a call that answers with bytes."""
    return {200: {"description": description, "headers": dict(headers or {}), "content": {OCTETS: {"schema": _BYTES}}}}


_BYTES: Final = {"type": "string", "format": "binary"}


def refusals(*kinds: type[errors.CoordinatorError] | type[CryptoError]) -> dict[int | str, dict[str, Any]]:
    """`responses` of a call: the problems that are its own, each with an example."""
    by_status: dict[int | str, dict[str, Any]] = defaultdict(dict)
    for kind in kinds:
        entry = PROBLEMS[kind]
        document = Problem(entry, (kind.__doc__ or "").strip(), {}).to_json()
        by_status[entry.status][entry.code] = {"summary": entry.title, "value": document}
    return {status: _refused(examples) for status, examples in by_status.items()}


def _refused(examples: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    titles = sorted({example["summary"] for example in examples.values()})
    return {"description": "; ".join(titles), "content": {MEDIA_TYPE: {"schema": schema, "examples": dict(examples)}}}


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation of every call in an OpenAPI document."""
    for path, calls in document["paths"].items():
        for method, operation in calls.items():
            yield method, path, operation


def install(app: FastAPI) -> None:
    """Complete the document that FastAPI collects, when it is first asked for."""
    collected = app.openapi

    def whole() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = collected()
            _add_schemas(document["components"]["schemas"])
            for method, _, operation in operations(document):
                _add_refusals(method, operation)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = whole  # type: ignore[method-assign]


def _add_schemas(schemas: dict[str, Any]) -> None:
    """The messages' and the problem document's beside those that FastAPI collected; examples in the answers'."""
    kinds: list[Any] = [*(Signed[kind] for kind in MESSAGES), ProblemDocument]  # type: ignore[valid-type]
    _, made = models_json_schema([(kind, "validation") for kind in kinds], ref_template="#/components/schemas/{model}")
    schemas.update({name.rstrip("_"): schema for name, schema in made["$defs"].items()})
    for name, example in ANSWERS.items():
        schemas[name]["example"] = example
    for ours in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form of what we answer as a problem
        schemas.pop(ours, None)


def _add_refusals(method: str, operation: dict[str, Any]) -> None:
    """Those that follow from what the call takes and needs; its own stay, and come first."""
    responses = operation["responses"]
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
    for status, refusal in refusals(*_general(method, operation)).items():
        own = responses.get(str(status), {}).get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
        responses[str(status)] = _refused({**own, **refusal["content"][MEDIA_TYPE]["examples"]})


def _general(method: str, operation: Mapping[str, Any]) -> list[type[errors.CoordinatorError] | type[CryptoError]]:
    general: list[type[errors.CoordinatorError] | type[CryptoError]] = []
    parameters, body = operation.get("parameters", []), operation.get("requestBody")
    if operation.get("security"):
        general += _WITH_TOKEN
    if any(parameter["in"] == "path" for parameter in parameters):
        general.append(errors.NotFound)
    if parameters or body:
        general.append(errors.RequestInvalid)
    if body:
        general.append(errors.TooLarge)
        if "Signed_" in str(body["content"].get("application/json", {}).get("schema")):
            general.append(Malformed)
    if method in _WRITES:
        general.append(errors.DiskFull)
    return general
