"""What the OpenAPI document says beyond what FastAPI finds by itself: signed messages, problems, examples."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema

from coordinator.errors import CoordinatorError
from coordinator.problems import MEDIA_TYPE, PROBLEMS, Problem
from crypto import epoch, manifest, outcome
from crypto.errors import CryptoError
from crypto.site_evaluation import SiteEvaluation
from crypto.wire import Message, Signed

_SITE: Final = "0b5c9a52-3f51-4a53-9f55-5f0f7ad14c6e"
_STUDY: Final = "6f1f6a0e-8d0c-4a0e-bb1b-3b7f0f8a2a11"
_DIGEST: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

# One example of each message that sites send; a test reads them with the messages' own parser.
EXAMPLES: Final[dict[type[Message], dict[str, Any]]] = {
    manifest.Manifest: {"plan": _DIGEST, "site": _SITE, "parts": [_DIGEST], "key_parts": [_DIGEST]},
    manifest.Vote: {"ballot": _DIGEST, "site": _SITE},
    manifest.Opening: {"ballot": _DIGEST, "site": _SITE, "secret_sum": [0] * 2048},
    manifest.ShareOpening: {"ballot": _DIGEST, "site": _SITE, "share_sum": [0] * 2048},
    manifest.BodyOpening: {"ballot": _DIGEST, "site": _SITE, "parts": [_DIGEST]},
    manifest.ShareRefusal: {"ballot": _DIGEST, "site": _SITE, "senders": [_SITE]},
    manifest.Refusal: {
        "site": _SITE,
        "step": "plan",
        "about": _DIGEST,
        "code": "peer-not-approved",
        "words": "The site hospital-c is on the roster and was not approved here.",
    },
    outcome.Outcome: {
        "ballot": _DIGEST,
        "site": _SITE,
        "model": _DIGEST,
        "size": 28_400_000,
        "samples": 420,
        "capped_samples": 400,
        "clipped": [0, 3],
        "recipe": [90, 41_000, 80, 10],
    },
    outcome.SealedAnswer: {"ballot": _DIGEST, "site": _SITE, "envelopes": [_DIGEST]},
    outcome.SealedModel: {
        "study": _STUDY,
        "model": _DIGEST,
        "holder": _SITE,
        "recipient": "5d0c1f36-9a0e-4f0b-9f77-0c3a4d1b6e20",
        "sha256": _DIGEST,
    },
    outcome.SpotCheck: {
        "ballot": _DIGEST,
        "site": _SITE,
        "model": _DIGEST,
        "part": 3,
        "result": "match",
        "words": "part 3 of the published model is what 4 contributions add up to",
    },
    SiteEvaluation: {"plan": _DIGEST, "site": _SITE, "model": _DIGEST, "counts": [90, 41_000, 80, 10]},
    epoch.EpochRecord: {
        "study": _STUDY,
        "epoch": 1,
        "dealer": _SITE,
        "parameters": epoch.CkksParameters().to_json(),
        "context": _DIGEST,
        "wraps": [{"recipient": _SITE, "sha256": _DIGEST}],
    },
    epoch.WrapAddition: {"epoch": _DIGEST, "holder": _SITE, "wrap": {"recipient": _SITE, "sha256": _DIGEST}},
    epoch.Approval: {"study": _STUDY, "site": _SITE, "peers": {_SITE: _DIGEST}},
}


class ProblemDocument(BaseModel):
    """RFC 9457. Programs branch on `code`; some problems carry fields of their own."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str


def takes(*kinds: type[Message]) -> dict[str, Any]:
    """`openapi_extra` of a call that takes Signed[kind] of one of these kinds."""
    references = [{"$ref": f"#/components/schemas/Signed_{kind.__name__}"} for kind in kinds]
    content = {
        "schema": references[0] if len(kinds) == 1 else {"anyOf": references},
        "example": {"message": EXAMPLES[kinds[0]], "signature": "00" * 64},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def takes_octets() -> dict[str, Any]:
    """`openapi_extra` of a call that takes bytes."""
    schema = {"type": "string", "format": "binary"}
    return {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": schema}}}}


def refusals(*kinds: type[CoordinatorError] | type[CryptoError]) -> dict[int | str, dict[str, Any]]:
    """`responses` of a call: the problems that are its own, each with an example."""
    by_status: dict[int | str, dict[str, Any]] = defaultdict(dict)
    for kind in kinds:
        entry = PROBLEMS[kind]
        document = Problem(entry, (kind.__doc__ or "").strip(), {}).to_json()
        by_status[entry.status][entry.code] = {"summary": entry.title, "value": document}
    return {
        status: {"model": ProblemDocument, "content": {MEDIA_TYPE: {"examples": examples}}}
        for status, examples in by_status.items()
    }


def install(app: FastAPI) -> None:
    """Put the messages' schemas beside those that FastAPI collected."""
    collected = app.openapi

    def with_messages() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = collected()
            kinds = [Signed[kind] for kind in EXAMPLES]  # type: ignore[valid-type]
            _, schemas = models_json_schema(
                [(kind, "validation") for kind in kinds], ref_template="#/components/schemas/{model}"
            )
            for name, schema in schemas["$defs"].items():
                document["components"]["schemas"][name.rstrip("_").replace("Signed_", "Signed_")] = schema
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = with_messages  # type: ignore[method-assign]
