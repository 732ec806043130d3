"""The operator's page. It only shows: what changes anything goes through the API or the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qs
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape
from sqlalchemy.orm import Session

from coordinator.errors import RateLimited
from coordinator.metrics import in_words
from coordinator.services import Services, address_of, services_of
from coordinator.store import history, operators, sites, studies, tables
from coordinator.web.studies import details, overview

router = APIRouter(include_in_schema=False)
COOKIE: Final = "pleura-session"
_AUDIT_ROWS: Final = 25
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def _moment(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds is not None else ""


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB" if number >= 1e5 else f"{number:,} B"


_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(default=True),
    trim_blocks=True,
    lstrip_blocks=True,
)
_pages.filters.update(moment=_moment, size=_size, measure=in_words)


@router.get("/")
def page(request: Request, services: Annotated[Services, Depends(services_of)]) -> HTMLResponse:
    """The dashboard for who is logged in, the login for everybody else."""
    operator = _logged_in(services, request)
    if operator is None:
        return _render("login.html", 200, fault=None)
    content = services.store.read("page", _content)
    return _render("dashboard.html", 200, operator=operator, now=services.clock.now(), **content)


@router.get("/studies/{study}")
def study_page(study: UUID, request: Request, services: Annotated[Services, Depends(services_of)]) -> HTMLResponse:
    """A study's figures, class by class, for who is logged in."""
    operator = _logged_in(services, request)
    if operator is None:
        return _render("login.html", 200, fault=None)
    content = services.store.read("study page", lambda session: details(session, studies.get(session, study)))
    return _render("study.html", 200, operator=operator, now=services.clock.now(), study=content)


@router.post("/login")
async def login(request: Request, services: Annotated[Services, Depends(services_of)]) -> HTMLResponse:
    """Trade an operator's token for a session."""
    form = parse_qs((await request.body()).decode(errors="replace"))
    try:
        services.logins.take(address_of(request))
    except RateLimited as error:
        return _render("login.html", 429, fault=error.detail)
    now, token = services.clock.now(), form.get("token", [""])[0].strip()
    found = await run_in_threadpool(services.store.read, "log in", lambda session: operators.find(session, token, now))
    if found is None:
        return _render("login.html", 401, fault="Nobody here was given this token, or it was revoked.")
    response = HTMLResponse("", 303, {"Location": "/"})
    response.set_cookie(
        COOKIE,
        services.sessions.open(found.name),
        max_age=int(services.sessions.seconds),
        httponly=True,
        samesite="strict",
        secure=services.settings.secure_cookies,
    )
    return response


@router.post("/logout")
def logout(request: Request, services: Annotated[Services, Depends(services_of)]) -> RedirectResponse:
    """End the session."""
    services.sessions.close(request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=services.settings.secure_cookies)
    return response


def _logged_in(services: Services, request: Request) -> tables.Operator | None:
    """Whoever is logged in and was not revoked since."""
    name = services.sessions.operator(request.cookies.get(COOKIE, ""))
    if name is None:
        return None
    now = services.clock.now()
    return services.store.read("find operator", lambda session: operators.by_name(session, name, now))


def _content(session: Session) -> dict[str, Any]:
    return {
        "studies": [overview(session, row) for row in reversed(studies.everyone(session))],
        "sites": sites.everyone(session),
        "names": {str(site.id): site.name for site in sites.everyone(session)},
        "audit": history.newest_audit_rows(session, _AUDIT_ROWS),
    }


def _render(template: str, status: int, **content: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(template).render(**content), status, _HEADERS)
