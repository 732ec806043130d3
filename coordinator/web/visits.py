"""Who looks at a page, and who may change something from it.

A form is taken from an operator only, when the browser says that it was sent from a page of ours, and with the token
that such a page carries: another site can make a browser send a form, and can neither read the token nor hide its own
origin. The cookie is SameSite=Strict besides.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final
from urllib.parse import parse_qs, urlsplit

from fastapi import Depends, Request

from coordinator import logs
from coordinator.api.public import Serving
from coordinator.errors import Forbidden, RoleMissing, Unauthenticated
from coordinator.store import audit_search, logins
from coordinator.store.tables import Operator
from crypto.canonical import sha256

COOKIE: Final = "pleura-session"
TOKEN_FIELD: Final = "form_token"  # noqa: S105 - the name of a field
TOKEN_HEADER: Final = "X-Form-Token"  # noqa: S105 - the name of a header


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is logged in. `seen` is the audit log's newest row: what the page shows is of then.

    `login` is the secret in the cookie.
    """

    operator: Operator
    seen: int
    login: str = field(repr=False)

    @property
    def acts(self) -> bool:
        """Whether this person may change anything; an auditor looks."""
        return self.operator.role == "operator"

    @property
    def actor(self) -> str:
        return f"operator:{self.operator.name}"

    @property
    def form_token(self) -> str:
        """What this login's forms carry. It says nothing of the login's id, and nobody who lacks that can make it."""
        return sha256(b"pleura-form:" + self.login.encode())


@dataclass(frozen=True, slots=True)
class Form:
    """What an operator sent from one of our pages."""

    visit: Visit
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)

    def text(self, name: str) -> str:
        return self.fields.get(name, "").strip()

    @property
    def given(self) -> dict[str, str]:
        """The fields that are not empty."""
        return {name: self.text(name) for name in self.fields if name != TOKEN_FIELD and self.text(name)}


def visit(request: Request, services: Serving) -> Visit:
    """Raises Unauthenticated: nobody is logged in, or not any more."""
    identifier, now = request.cookies.get(COOKIE, ""), services.clock.now()
    operator, seen = services.store.read(
        "find login", lambda session: (logins.find(session, identifier, now), audit_search.newest(session))
    )
    if operator is None:
        raise Unauthenticated("Nobody is logged in here, or not any more. Log in with an operator's token.")
    found: Visit = Visit(operator, seen, identifier)
    logs.note(caller=found.actor)
    request.state.visit = found  # for the page that shows an error
    return found


Looking = Annotated[Visit, Depends(visit)]


async def acting(request: Request, visit: Looking) -> Form:
    """The form that an operator sent.

    Raises:
        RoleMissing: an auditor sent it.
        Forbidden: it was not sent from a page that this login was shown.
    """
    _check_may_act(request, visit)
    fields = await form_fields(request)
    _check_token(visit, fields.get(TOKEN_FIELD, ""))
    return Form(visit, fields)


def uploading(request: Request, visit: Looking) -> Visit:
    """The operator who sends a file by our script, which puts the form's token into a header. Raises as `acting`."""
    _check_may_act(request, visit)
    _check_token(visit, request.headers.get(TOKEN_HEADER, ""))
    return visit


Acting = Annotated[Form, Depends(acting)]
Uploading = Annotated[Visit, Depends(uploading)]


async def form_fields(request: Request) -> dict[str, str]:
    """An urlencoded body's fields, the first of each name."""
    body = (await request.body()).decode(errors="replace")
    return {name: values[0] for name, values in parse_qs(body, keep_blank_values=True).items()}


def check_from_here(request: Request) -> None:
    """Raises Forbidden if the browser says that a page of another origin sent this."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    here = request.headers.get("host", "")
    foreign = origin not in (None, "null") and urlsplit(origin).netloc != here
    if site not in (None, "same-origin", "none") or foreign:
        raise Forbidden("This form was sent from a page of another site. Nothing was changed.")


def _check_may_act(request: Request, visit: Visit) -> None:
    if not visit.acts:
        raise RoleMissing(f"{visit.operator.name!r} is an auditor, who may look and change nothing.")
    check_from_here(request)


def _check_token(visit: Visit, token: str) -> None:
    if not hmac.compare_digest(token.encode(), visit.form_token.encode()):
        raise Forbidden("This form is of another login than the present one. Load the page again and send it anew.")
