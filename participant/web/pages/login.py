"""The token, where the page can be reached from other machines."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from participant.policy import Refused
from participant.web.rendering import COOKIE, PageRoute, go_to, page_of, render

router = APIRouter(route_class=PageRoute)


@router.get("/login")
def login(request: Request) -> Response:
    return render(request, "login.html", fault="")


@router.post("/login")
def log_in(request: Request, token: Annotated[str, Form(max_length=200)]) -> Response:
    page = page_of(request)
    page.logins.take(address_of(request))
    try:
        carried = page.admit(token)
    except Refused as error:
        return render(request, "login.html", 403, fault=error.words)
    answer = go_to("/")
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, carried, httponly=True, samesite="strict", secure=secure)
    return answer


def address_of(request: Request) -> str:
    """Of whoever asks; behind a proxy on this machine, the one that it names."""
    return request.client.host if request.client else ""
