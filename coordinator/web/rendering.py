"""Pages out of templates, and errors as pages: people meet both in a browser."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from coordinator.errors import RequestInvalid, Unauthenticated
from coordinator.metrics import in_words
from coordinator.problems import INTERNAL, problem_of
from coordinator.services import services_of

log = logging.getLogger(__name__)

_THEME_COOKIE: Final = "pleura-theme"  # written by the script, read here so that no page flashes in the wrong colours
_THEMES: Final = ("light", "dark")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def render(request: Request, template: str, status: int = 200, **content: Any) -> HTMLResponse:
    """The page; not to be kept by anybody, as it is for one person at one moment."""
    theme = request.cookies.get(_THEME_COOKIE)
    shared = {
        "visit": getattr(request.state, "visit", None),
        "theme": theme if theme in _THEMES else None,
        "path": request.url.path,
        "now": services_of(request).clock.now(),
    }
    words = _templates.get_template(template).render(**shared, **content)
    return HTMLResponse(words, status, {"Cache-Control": "no-store"})


def go_to(path: str) -> RedirectResponse:
    """After a form: the browser shows that page, and loading it again sends nothing anew."""
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


def faults_of(error: ValidationError) -> list[str]:
    """What is wrong with a form, field by field, in words."""
    return [
        f"{str(fault['loc'][0]).replace('_', ' ').capitalize() if fault['loc'] else 'The form'}: {fault['msg']}"
        for fault in error.errors(include_url=False)
    ]


class PageRoute(APIRoute):
    """A route whose refusals are pages, and that leads to the login where nobody is logged in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except Unauthenticated:
                wanted = request.url.path if request.method == "GET" else "/"
                return go_to(f"/login?next={quote(wanted)}" if wanted != "/" else "/login")
            except RequestValidationError:
                return _refusal(request, RequestInvalid("This address or form is not one of ours. Check it."))
            except HTTPException:
                raise
            except Exception as error:
                return _refusal(request, error)

        return handled


def _refusal(request: Request, error: Exception) -> HTMLResponse:
    problem = problem_of(error)
    if problem.entry is INTERNAL:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return render(request, "error.html", problem.entry.status, title=problem.entry.title, words=problem.detail)


def _moment(seconds: float | None) -> Markup:
    """A time as people and programs read it, in UTC: operators sit in several zones, and logs are in UTC."""
    if seconds is None:
        return Markup("")
    at = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), at.strftime("%Y-%m-%d %H:%M:%S"))


def _clock(seconds: float | None) -> Markup:
    """The same, of the day only."""
    if seconds is None:
        return Markup("")
    at = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), at.strftime("%H:%M:%S"))


def _ago(seconds: float, now: float) -> str:
    passed = max(0, int(now - seconds))
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if passed >= unit:
            return f"{passed // unit} {name} ago"
    return "just now"


def _duration(seconds: float | None) -> str:
    """Seconds as people say them: 0.42 s, 37 s, 4 min 10 s, 2 h 5 min, 3 d."""
    if seconds is None:
        return ""
    if seconds < _MINUTE:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    days, hours, minutes = whole // _DAY, whole % _DAY // _HOUR, whole % _HOUR // _MINUTE
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (whole % _MINUTE, "s"))
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:2])


def _known(site: UUID | str, names: Mapping[UUID, str]) -> str:
    """A site by its name, or its id where there is none."""
    return names.get(site if isinstance(site, UUID) else UUID(site), str(site))


def _size(number: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            return f"{number / unit:,.1f} {name}"
    return f"{number} B"


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "moment": _moment,
    "clock": _clock,
    "ago": _ago,
    "duration": _duration,
    "size": _size,
    "measure": in_words,
    "known": _known,
}
_templates.globals["parts"] = _templates.get_template("parts.html").module
