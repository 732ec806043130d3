"""Where the agent stands."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from participant import setup
from participant.settings import ConfigError, Home
from participant.web.agent_view import agent_view
from participant.web.rendering import PageRoute, page_of, render, visitor

router = APIRouter(route_class=PageRoute, dependencies=[Depends(visitor)])


@router.get("/")
def status(request: Request) -> HTMLResponse:
    home = home_of(request)
    site, fault = _site(home)
    view = agent_view(home.ledger, home.lock)
    return render(request, "status.html", config=home.load_config(), site=site, fault=fault, view=view)


def home_of(request: Request) -> Home:
    """Of the agent whose page this is."""
    home = page_of(request).home
    if home is None:
        raise TypeError("a public page has no agent")
    return home


def _site(home: Home) -> tuple[str, str]:
    """Its id at the coordinator, or why it has none."""
    try:
        return str(setup.enrolment_of(home).site), ""
    except ConfigError as error:
        return "", str(error)
