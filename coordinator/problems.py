"""One table from every error to the RFC 9457 problem document a caller gets. A test walks all error types."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from coordinator import errors, logs
from crypto import errors as crypto_errors

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
NOTED: Final = "problem"  # the name under which `coordinator.logs` hears of the code that was answered
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM_STATE: Final = "53100"  # PostgreSQL's


@dataclass(frozen=True, slots=True)
class Entry:
    """How one kind of error is answered. `code` is what programs branch on; it never changes."""

    status: int
    code: str
    title: str


PROBLEMS: Final[Mapping[type[Exception], Entry]] = {
    errors.CoordinatorError: Entry(400, "refused", "The request was refused"),
    errors.Unauthenticated: Entry(401, "unauthenticated", "Who is calling is not established"),
    errors.TokenMissing: Entry(401, "token-missing", "A bearer token is needed"),
    errors.TokenInvalid: Entry(401, "token-invalid", "This token is not valid here"),
    errors.TokenExpired: Entry(401, "token-expired", "This token is outside its lifetime"),
    errors.TokenReplayed: Entry(401, "token-replayed", "This token was used before"),
    errors.Forbidden: Entry(403, "forbidden", "This caller may not do that"),
    errors.RoleMissing: Entry(403, "role-missing", "This call belongs to another kind of caller"),
    errors.SiteSuspended: Entry(403, "site-suspended", "This site is suspended"),
    errors.NotAMember: Entry(403, "not-a-member", "This site is not a member"),
    errors.KeyLimit: Entry(403, "key-limit", "This site has stored too many key blobs"),
    errors.InvitationRefused: Entry(403, "invitation-refused", "This invitation admits nobody"),
    errors.InvitationInvalid: Entry(403, "invitation-invalid", "This invitation is not valid"),
    errors.InvitationUsed: Entry(403, "invitation-used", "This invitation was used before"),
    errors.InvitationExpired: Entry(403, "invitation-expired", "This invitation is past its time"),
    errors.NotFound: Entry(404, "not-found", "There is no such thing"),
    errors.Conflict: Entry(409, "conflict", "Not possible in the present state"),
    errors.NameTaken: Entry(409, "name-taken", "The name is taken"),
    errors.StudyState: Entry(409, "study-state", "The study's state does not allow this"),
    errors.RoundClosed: Entry(409, "round-closed", "This attempt takes no contributions any more"),
    errors.PartDiffers: Entry(409, "part-differs", "Another part was sent under this number"),
    errors.ManifestDiffers: Entry(409, "manifest-differs", "Another manifest was sent for this plan"),
    errors.AnswerDiffers: Entry(409, "answer-differs", "Another answer was sent to this ballot"),
    errors.PartsMissing: Entry(409, "parts-missing", "The manifest lists parts that are not here"),
    errors.VotesMissing: Entry(409, "votes-missing", "Too few sites have voted"),
    errors.EpochExists: Entry(409, "epoch-exists", "The key epoch is taken"),
    errors.Refused: Entry(422, "refused-for-good", "This can never be accepted"),
    errors.RequestInvalid: Entry(422, "request-invalid", "The request is not as documented"),
    errors.MessageRefused: Entry(422, "message-refused", "The signed message is refused"),
    errors.ManifestRefused: Entry(422, "manifest-refused", "The manifest is refused"),
    errors.PartSize: Entry(422, "part-size", "The part has the wrong size"),
    errors.ModelRefused: Entry(422, "model-refused", "The model file is refused"),
    errors.DigestMismatch: Entry(400, "digest-mismatch", "The bytes are not those that were announced"),
    errors.TooLarge: Entry(413, "too-large", "The body is too large"),
    errors.RangeUnsatisfiable: Entry(416, "range-unsatisfiable", "The byte range lies outside the file"),
    errors.RateLimited: Entry(429, "rate-limited", "Too many tries"),
    errors.NotReady: Entry(503, "not-ready", "The coordinator is not ready"),
    errors.Busy: Entry(503, "busy", "The coordinator is busy"),
    errors.DiskFull: Entry(507, "disk-full", "The coordinator has no room"),
    crypto_errors.CryptoError: Entry(422, "message-refused", "The message is refused"),
    crypto_errors.Malformed: Entry(422, "malformed", "The message is malformed"),
    crypto_errors.MalformedKeyPart: Entry(422, "malformed-key-part", "The key part is malformed"),
    crypto_errors.SharesRefused: Entry(422, "shares-refused", "Sealed shares do not open"),
    crypto_errors.PrivateContext: Entry(422, "private-context", "The context carries a secret key"),
    crypto_errors.CorruptCiphertext: Entry(422, "corrupt-ciphertext", "The envelope was changed on its way"),
    crypto_errors.WrongRecipient: Entry(422, "wrong-recipient", "The envelope is for somebody else"),
    crypto_errors.InvalidSignature: Entry(422, "signature-invalid", "The signature does not verify"),
    crypto_errors.WrongDigest: Entry(400, "digest-mismatch", "The bytes are not those that were announced"),
    crypto_errors.OutOfRange: Entry(422, "out-of-range", "A number is out of range"),
    crypto_errors.OpeningRefused: Entry(422, "opening-refused", "The opening is refused"),
    crypto_errors.TooFewShares: Entry(422, "too-few-shares", "Too few answers to open the sum"),
    crypto_errors.SharesDisagree: Entry(422, "shares-disagree", "The answers do not agree"),
    crypto_errors.CanaryMismatch: Entry(422, "canary-mismatch", "A canary did not open to zero"),
    crypto_errors.NegativeCount: Entry(422, "negative-count", "A count opened below zero"),
}

INTERNAL: Final = Entry(500, "internal", "Something failed here")
NO_SUCH_METHOD: Final = Entry(405, "method-not-allowed", "Method Not Allowed")


def every_entry() -> list[Entry]:
    """What may be answered, by status and code; of errors that share a code the first."""
    found: dict[str, Entry] = {}
    for entry in (*PROBLEMS.values(), NO_SUCH_METHOD, INTERNAL):
        found.setdefault(entry.code, entry)
    return sorted(found.values(), key=lambda entry: (entry.status, entry.code))


@dataclass(frozen=True, slots=True)
class Problem:
    """An RFC 9457 problem document. `fields` are members of its own, such as the parts that are missing."""

    entry: Entry
    detail: str
    fields: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "type": f"urn:pleura:problem:{self.entry.code}",
            "title": self.entry.title,
            "status": self.entry.status,
            "detail": self.detail,
            "code": self.entry.code,
            **self.fields,
        }

    def response(self) -> JSONResponse:
        headers = {"WWW-Authenticate": "Bearer"} if self.entry.status == HTTPStatus.UNAUTHORIZED else {}
        if "retry_after" in self.fields:
            headers["Retry-After"] = str(self.fields["retry_after"])
        if "size" in self.fields and self.entry.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            headers["Content-Range"] = f"bytes */{self.fields['size']}"
        request = logs.noted().get("request")
        logs.note(**{NOTED: self.entry.code})
        document = self.to_json() | ({"request": request} if request else {})
        return JSONResponse(document, self.entry.status, headers, MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """The document for an error. What is not in the table is ours to mend: its text is for the log, not the caller."""
    if _no_room(error):
        error = errors.DiskFull("The coordinator's disk is full. Nothing was lost: send the same request again later.")
    entry = PROBLEMS.get(type(error))
    if entry is None:
        return Problem(INTERNAL, "The coordinator met an error of its own. Its operator finds it in the log.", {})
    return Problem(entry, str(error), error.fields if isinstance(error, errors.CoordinatorError) else {})


def _no_room(error: Exception) -> bool:
    if isinstance(error, OperationalError):
        said = getattr(error.orig, "sqlite_errorname", "") or getattr(error.orig, "sqlstate", "")
        return said in ("SQLITE_FULL", _NO_ROOM_STATE)
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def install(app: FastAPI) -> None:
    """Answer every error of the app with a problem document."""
    for base in (errors.CoordinatorError, crypto_errors.CryptoError, OSError, Exception):
        app.add_exception_handler(base, answer)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


async def answer(request: Request, error: Exception) -> JSONResponse:
    """The problem document of an error; one that is ours to mend is logged whole."""
    problem = problem_of(error)
    if problem.entry is INTERNAL:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem.response()


async def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    """Every wrong field at once. Values are not repeated: a mistyped token may be among them."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type only
    faults = [{"field": ".".join(map(str, fault["loc"])), "fault": fault["msg"]} for fault in error.errors()]
    words = "; ".join(f"{fault['field']}: {fault['fault']}" for fault in faults)
    invalid = errors.RequestInvalid(f"The request is not as documented: {words}.", {"faults": faults})
    return problem_of(invalid).response()


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses by itself: an unknown path, a method that a path does not have, a body in no UTF-8."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type only
    status = HTTPStatus(error.status_code)
    if status == HTTPStatus.BAD_REQUEST:
        return problem_of(errors.RequestInvalid("The body cannot be read. Send JSON in UTF-8.")).response()
    entry = Entry(status, status.phrase.lower().replace(" ", "-"), status.phrase)
    response = Problem(entry, f"{request.method} {request.url.path}: {error.detail}.", {}).response()
    response.headers.update(error.headers or {})
    return response
