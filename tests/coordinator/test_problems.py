"""Every error type has its problem document, and what is unexpected tells nothing."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

from coordinator.errors import CoordinatorError, PartsMissing, RangeUnsatisfiable, RateLimited, TokenMissing
from coordinator.problems import PROBLEMS, problem_of
from crypto.errors import CryptoError, InvalidSignature


def family(base: type[Exception]) -> Iterator[type[Exception]]:
    yield base
    for child in base.__subclasses__():
        yield from family(child)


EVERY = [*family(CoordinatorError), *family(CryptoError)]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_error_is_in_the_table(kind: type[Exception]) -> None:
    entry = PROBLEMS[kind]
    document = problem_of(kind("What happened.")).to_json()
    assert document["detail"] == "What happened."
    assert document["type"] == f"urn:pleura:problem:{entry.code}"
    assert 400 <= entry.status < 600


def test_the_table_has_nothing_else() -> None:
    assert set(PROBLEMS) == set(EVERY)


def test_a_new_error_type_would_be_noticed() -> None:
    unlisted = type("Unlisted", (Exception,), {})
    assert problem_of(unlisted("secret")).to_json()["code"] == "internal"


def test_codes_mean_one_status() -> None:
    statuses: dict[str, set[int]] = {}
    for entry in PROBLEMS.values():
        statuses.setdefault(entry.code, set()).add(entry.status)
    assert all(len(found) == 1 for found in statuses.values())


def test_fields_stand_beside_the_detail() -> None:
    document = problem_of(PartsMissing("Two are missing.", {"parts": [1, 4]})).to_json()
    assert document["parts"] == [1, 4]


def test_headers_follow_from_the_problem() -> None:
    assert problem_of(TokenMissing("x")).response().headers["www-authenticate"] == "Bearer"
    assert problem_of(RateLimited("x", {"retry_after": 7})).response().headers["retry-after"] == "7"
    assert problem_of(RangeUnsatisfiable("x", {"size": 9})).response().headers["content-range"] == "bytes */9"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_on_the_disk(number: int) -> None:
    assert problem_of(OSError(number, "no room", "/srv/secret")).to_json()["code"] == "disk-full"


def test_no_room_for_the_database() -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorname = "SQLITE_FULL"
    assert problem_of(OperationalError("INSERT", {}, full)).to_json()["code"] == "disk-full"


@pytest.mark.parametrize("error", [OSError(errno.EIO, "/srv/secret"), KeyError("/srv/secret")])
def test_unexpected_errors_keep_to_themselves(error: Exception) -> None:
    document = problem_of(error).to_json()
    assert document["status"] == 500
    assert "secret" not in str(document)


def test_the_app_answers_with_them(world, refused, caplog) -> None:
    def fail() -> None:
        raise RuntimeError("/srv/secret")

    def distrust() -> None:
        raise InvalidSignature("Not signed by that site.")

    app: FastAPI = world.app
    app.add_api_route("/fail", fail)
    app.add_api_route("/distrust", distrust)
    assert "secret" not in str(refused(world.call("GET", "/fail"), 500, "internal"))
    assert "/srv/secret" in caplog.text
    refused(world.call("GET", "/distrust"), 422, "signature-invalid")
    refused(world.call("GET", "/nowhere"), 404, "not-found")
    refused(world.call("POST", "/v1/status"), 405, "method-not-allowed")


@pytest.mark.parametrize("body", [b"\xff", b"{", b"[" * 100_000, b'"\\ud800"'], ids=["octets", "cut", "deep", "text"])
def test_what_is_no_json(world, refused, body: bytes) -> None:
    refused(world.call("POST", "/v1/enrolments", content=body), 422, "request-invalid")


def test_all_wrong_fields_at_once_and_no_values(world, refused) -> None:
    wrong = {"invitation": "", "name": " spaced ", "signing_key": "SECRET", "colour": "red"}
    document = refused(world.call("POST", "/v1/enrolments", json=wrong), 422, "request-invalid")
    fields = {fault["field"] for fault in document["faults"]}
    expected = {"invitation", "name", "signing_key", "hpke_key", "proof", "colour"}
    assert fields == {f"body.{name}" for name in expected}
    assert "SECRET" not in str(document)
