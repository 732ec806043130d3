"""docs/api.md, from the OpenAPI document and the table of problems: `python -m coordinator.api.reference` prints it."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from coordinator.api.openapi import GENERAL, operations
from coordinator.app import create_app, open_services
from coordinator.problems import MEDIA_TYPE, every_entry
from coordinator.remedies import REMEDIES
from coordinator.settings import Settings

_SHOWN: Final = 12  # elements of a list in an example, and characters times four of a text
_HEAD: Final = """# The API

Made from the coordinator's OpenAPI document by `make api-docs`; do not edit. The document itself is at `/openapi.json`,
what the calls mean together in [wire.md](wire.md).

All addresses are below the coordinator's; what is not octets is JSON. Ids are UUIDs, digests SHA-256 in lower-case hex,
times Unix seconds. Operators and auditors send `Authorization: Bearer TOKEN`, sites a JWT that they sign for the one
request.

Lists come in pages of at most 500 rows. Where there are more, the header `Link: <ADDRESS>; rel="next"` (RFC 8288) has
the next page's address; `limit` makes pages smaller, `after` names the row to go on behind.

Calls list the problems that are their own. Beside these, what needs a token may be refused with {token}; what takes a
body or parameters with {body}; and what writes with `disk-full`. All are explained under [Problems](#problems).
"""
_PROBLEMS: Final = """
## Problems

What is refused is answered with a problem document (RFC 9457, `application/problem+json`): `type`, `title`, `status`,
`detail` (what happened in this case, and what to do), `code`, and fields of its own. Programs branch on `code` or
`type`.

| type | status | meaning | what to do |
|---|---|---|---|
"""


def page(document: Mapping[str, Any]) -> str:
    """The whole page, in Markdown."""
    by_tag: dict[str, list[str]] = defaultdict(list)
    for method, path, operation in operations(document):
        by_tag[operation["tags"][0]].append("\n".join(_operation(method, path, operation, document)))
    body = ("request-invalid", "malformed", "too-large")
    token = sorted(GENERAL - {*body, "disk-full"})
    parts = [_HEAD.format(token=_listed(token), body=_listed(body))]
    for tag in document["tags"]:
        if tag["name"] in by_tag:
            parts.append(f"\n## {tag['name'].capitalize()}\n\n{tag['description']}\n")
            parts += by_tag[tag["name"]]
    return "".join([*parts, _PROBLEMS, *_problems()])


def _operation(method: str, path: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n### `{method.upper()} {path}`\n"
    yield f"{operation['description']} (`{operation['operationId']}`)\n"
    if parameters := [each for each in operation.get("parameters", []) if each["in"] != "path"]:
        yield "| parameter | form | |\n|---|---|---|"
        yield from (_parameter(each) for each in parameters)
        yield ""
    if body := operation.get("requestBody"):
        yield from _content("Takes", body["content"], document)
    for status, answer in operation["responses"].items():
        if not status.startswith(("4", "5")):
            yield from _content(f"Answers {status}", answer.get("content", {}), document)
    codes = {code for answer in operation["responses"].values() for code in _codes(answer)} - GENERAL
    if codes:
        yield f"Refuses with {_listed(sorted(codes))}.\n"


def _listed(codes: Iterable[str]) -> str:
    return ", ".join(f"`{code}`" for code in codes)


def _parameter(parameter: Mapping[str, Any]) -> str:
    schema = parameter.get("schema", {})
    where = "header " if parameter["in"] == "header" else ""
    needed = "" if parameter.get("required") else ", optional"
    words = parameter.get("description") or schema.get("description", "")
    return f"| {where}`{parameter['name']}` | {_form(schema)}{needed} | {words} |"


def _form(schema: Mapping[str, Any]) -> str:
    kinds = schema.get("anyOf", [schema])
    words = [_one_form(kind) for kind in kinds if kind.get("type") != "null"]
    return " or ".join(words)


def _one_form(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    kind = (
        f"list of {_form(schema['items'])}" if "items" in schema else str(schema.get("format", schema.get("type", "")))
    )
    low, high = schema.get("minimum"), schema.get("maximum")
    return kind if low is None or high is None else f"{kind}, {low} to {high}"


def _content(title: str, content: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    if not content:
        yield f"{title}, without a body.\n"
    for media_type, media in content.items():
        example = _example(media, document["components"]["schemas"])
        if media_type != "application/json":
            yield f"{title} with `{media_type}`.\n"
        elif example is None:
            yield f"{title} with {_form(media.get('schema', {})) or 'JSON'}.\n"
        else:
            yield f"{title}, for example\n\n```json\n{json.dumps(_short(example), indent=2)}\n```\n"


def _example(media: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """An example of a body: its own, or that of the schema that it is, or is a list of."""
    if "example" in media:
        return media["example"]
    schema = media.get("schema", {})
    if "items" in schema:
        one = _example({"schema": schema["items"]}, schemas)
        return None if one is None else [one]
    named = schemas.get(str(schema.get("$ref", "")).rpartition("/")[2], {})
    return named.get("example", next(iter(named.get("examples", [])), None))


def _short(value: Any) -> Any:
    """Long lists and texts cut: the form is what counts."""
    if isinstance(value, Mapping):
        return {key: _short(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_short(each) for each in value[:_SHOWN]] + (["..."] if len(value) > _SHOWN else [])
    return value[:64] + "..." if isinstance(value, str) and len(value) > 80 else value


def _codes(answer: Mapping[str, Any]) -> Iterator[str]:
    yield from answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})


def _problems() -> Iterator[str]:
    for entry in every_entry():
        yield f"| `urn:pleura:problem:{entry.code}` | {entry.status} | {entry.title} | {REMEDIES[entry.code]} |\n"


def document(folder: Path) -> dict[str, Any]:
    """The OpenAPI document, of a coordinator with nothing in it below `folder`."""
    services = open_services(Settings(data_dir=folder))
    try:
        return create_app(services).openapi()
    finally:
        services.store.close()


def main() -> None:
    with TemporaryDirectory() as folder:
        sys.stdout.write(page(document(Path(folder))))


if __name__ == "__main__":
    main()
