"""The OpenAPI document is complete, and docs/api.md is made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from coordinator.api import reference
from coordinator.api.examples import ANSWERS
from coordinator.api.openapi import GENERAL, TAGS, operations
from coordinator.problems import MEDIA_TYPE, every_entry
from coordinator.remedies import REMEDIES

ROOT = Path(__file__).parents[2]
OPEN = {"/v1/status", "/v1/enrolments", "/healthz", "/readyz"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return reference.document(tmp_path_factory.mktemp("data"))


def calls(document: Any) -> list[tuple[str, Any]]:
    return [(f"{method.upper()} {path}", operation) for method, path, operation in operations(document)]


def test_every_call_is_described(document) -> None:
    assert len(calls(document)) > 60
    assert len({tag["name"] for tag in TAGS}) == len(TAGS)
    for name, operation in calls(document):
        assert operation["summary"], name
        assert len(operation["description"]) > 5, name
        assert len(operation["tags"]) == 1, name
        assert operation["tags"][0] in {tag["name"] for tag in TAGS}, name
        assert all(answer["description"] for answer in operation["responses"].values()), name


def test_operation_ids_are_one_for_each_call(document) -> None:
    names = [operation["operationId"] for _, operation in calls(document)]
    assert len(set(names)) == len(names)
    assert {"studies-start", "rounds-task", "contributions-put-part", "models-download"} <= set(names)


def test_refusals_are_documented_as_problems(document) -> None:
    codes = {entry.code: entry.status for entry in every_entry()}
    for name, operation in calls(document):
        refusals = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        for status, answer in refusals.items():
            assert set(answer["content"]) == {MEDIA_TYPE}, name
            examples = answer["content"][MEDIA_TYPE]["examples"]
            assert {codes[code] for code in examples} == {int(status)}, name
        if operation.get("security"):
            assert {"401", "403", "429", "503"} <= set(refusals), name
        if "requestBody" in operation:
            assert {"413", "422"} <= set(refusals), name
        if name.partition("{")[1]:
            assert "404" in refusals, name


def test_who_needs_a_token(document) -> None:
    open_calls = {name.split()[1] for name, operation in calls(document) if not operation.get("security")}
    assert open_calls == OPEN
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


def examples(document: Any, media: Any) -> list[Any]:
    named = document["components"]["schemas"].get(media["schema"].get("$ref", "").rpartition("/")[2], {})
    inner = named or media["schema"]
    return [holder["example"] for holder in (media, inner) if "example" in holder] + inner.get("examples", [])


def test_every_json_body_has_an_example_that_fits(document) -> None:
    for name, operation in calls(document):
        media = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if media is not None:
            assert examples(document, media), name
            for example in examples(document, media):
                Draft202012Validator(document | media["schema"]).validate(example)


def test_answers_have_examples_that_fit(document) -> None:
    for name, example in ANSWERS.items():
        Draft202012Validator(document | {"$ref": f"#/components/schemas/{name}"}).validate(example)
    shown = set()
    for _, operation in calls(document):
        for status, answer in operation["responses"].items():
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            reference_ = schema.get("$ref") or schema.get("items", {}).get("$ref")
            if status < "300" and reference_:
                shown.add(reference_.rpartition("/")[2])
    assert shown - set(ANSWERS) <= {"Comparison"}


def test_numbers_in_addresses_and_queries_fit_the_database(document) -> None:
    """PostgreSQL's integers end at 2**31 - 1, SQLite's at 2**63 - 1: beyond, it would be an error of ours."""
    for name, operation in calls(document):
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            for kind in schema.get("anyOf", [schema]):
                if kind.get("type") == "integer":
                    assert kind["maximum"] <= 2**31 - 1, (name, parameter["name"])


def test_every_problem_has_its_remedy() -> None:
    assert {entry.code for entry in every_entry()} == set(REMEDIES)
    assert set(REMEDIES) >= GENERAL


def test_the_page_is_what_the_document_says(document) -> None:
    page = reference.page(document)
    assert (ROOT / "docs/api.md").read_text() == page, "run `make api-docs`"
    for name, _ in calls(document):
        assert f"### `{name}`" in page
    assert "urn:pleura:problem:votes-missing` | 409" in page
