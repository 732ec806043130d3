"""Pages out of templates, and refusals as pages."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from participant.diagnosis.case import NOTICE
from participant.policy import Refused
from participant.web.faults import note
from participant.web.security import TooLarge
from participant.web.settings import Page

COOKIE: Final = "pleura-page"
_THEME: Final = "pleura-theme"  # written by the script, read here so that no page flashes in the wrong colours
_STATUS: Final = {"too-many": 429, "busy": 503, "too-large": 413, "gone": 404, "wrong-token": 403}


class LoginNeeded(Exception):
    """Nobody has shown this page's token from here yet."""


def page_of(request: Request) -> Page:
    page: Page = request.app.state.page
    return page


def visitor(request: Request) -> None:
    """A dependency: whoever asks may look.

    Raises:
        LoginNeeded: they may not.
    """
    if not page_of(request).admitted(request.cookies.get(COOKIE)):
        raise LoginNeeded


def render(request: Request, template: str, status: int = 200, **content: Any) -> HTMLResponse:
    theme = request.cookies.get(_THEME)
    shared = {
        "page": page_of(request),
        "theme": theme if theme in ("light", "dark") else None,
        "path": request.url.path,
        "inside": page_of(request).admitted(request.cookies.get(COOKIE)),
        "notice": NOTICE,
    }
    return HTMLResponse(_templates.get_template(template).render(**shared, **content), status)


def go_to(path: str) -> RedirectResponse:
    """After a form: the browser shows that page, and loading it again sends nothing anew."""
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


class PageRoute(APIRoute):
    """A route whose refusals are pages, and that leads to the login where one is needed."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except LoginNeeded:
                return go_to("/login")
            except (Refused, RequestValidationError) as error:
                return refusal(request, error)
            except Exception as error:
                note(f"{request.method} {request.scope['route'].path} failed", error)
                return refusal(request, Refused("failed", "This did not work; the page's terminal says more."))

        return handled


def refusal(request: Request, error: Refused | RequestValidationError) -> Response:
    """Why not, as a page; or in JSON to the script."""
    if isinstance(error, RequestValidationError):
        error = Refused("no-form", "This address or form is not one of ours. Check it.")
    status = 413 if isinstance(error, TooLarge) else _STATUS.get(error.code, 400)
    words = error.words[:1].upper() + error.words[1:]
    return render(request, "error.html", status, words=words)


def _moment(seconds: float) -> Markup:
    """A time on this machine's clock: whoever reads it sits beside it."""
    at = datetime.fromtimestamp(seconds, UTC).astimezone()
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), at.strftime("%Y-%m-%d %H:%M:%S"))


def _size(number: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            return f"{number / unit:,.1f} {name}"
    return f"{number:g} B"


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"moment": _moment, "size": _size}
