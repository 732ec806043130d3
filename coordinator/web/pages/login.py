"""Coming and going."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from coordinator.api.public import Serving
from coordinator.errors import RateLimited
from coordinator.services import address_of
from coordinator.store import logins, operators
from coordinator.web.rendering import PageRoute, go_to, render
from coordinator.web.visits import COOKIE, check_from_here, form_fields

router = APIRouter(route_class=PageRoute)
_HOUR = 3600.0


@router.get("/login")
def show(request: Request, wanted: Annotated[str, Query(alias="next", max_length=500)] = "/") -> Response:
    """The form; `next` is the page to go to afterwards."""
    return render(request, "login.html", fault=None, wanted=_local(wanted))


@router.post("/login")
async def log_in(request: Request, services: Serving) -> Response:
    """Trade an operator's token for a login."""
    check_from_here(request)
    form = await form_fields(request)
    wanted = _local(form.get("next", "/"))
    try:
        services.logins.take(address_of(request))
    except RateLimited as error:
        return render(request, "login.html", 429, fault=error.detail, wanted=wanted)
    token, now = form.get("token", "").strip(), services.clock.now()
    seconds = services.settings.session_hours * _HOUR

    def open_login(session: Session) -> str | None:
        operator = operators.find(session, token, now)
        return logins.open_for(session, operator, now + seconds, now) if operator is not None else None

    identifier = await run_in_threadpool(services.store.run, "log in", open_login)
    if identifier is None:
        fault = "Nobody here was given this token, or it was revoked or has expired."
        return render(request, "login.html", 401, fault=fault, wanted=wanted)
    response = go_to(wanted)
    secure = services.settings.secure_cookies
    response.set_cookie(COOKIE, identifier, max_age=int(seconds), httponly=True, samesite="strict", secure=secure)
    return response


@router.post("/logout")
def log_out(request: Request, services: Serving) -> Response:
    """End the login. No token is asked for: at worst somebody has to log in again."""
    check_from_here(request)
    identifier = request.cookies.get(COOKIE, "")
    services.store.run("log out", lambda session: logins.close(session, identifier))
    response = go_to("/login")
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=services.settings.secure_cookies)
    return response


def _local(wanted: str) -> str:
    """A path of ours, whatever somebody put into a link to the login."""
    return wanted if wanted.startswith("/") and not wanted.startswith(("//", "/\\")) else "/"
