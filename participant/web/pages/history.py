"""What left this site: a page of the ledger."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from participant.web.agent_view import what_left
from participant.web.pages.status import home_of
from participant.web.rendering import PageRoute, render, visitor

_ROWS: Final = 100

router = APIRouter(route_class=PageRoute, dependencies=[Depends(visitor)])


@router.get("/history")
def history(request: Request, page_number: Annotated[int, Query(alias="page", ge=1, le=10_000)] = 1) -> HTMLResponse:
    lines = list(what_left(home_of(request).ledger))[::-1]
    first = (page_number - 1) * _ROWS
    return render(
        request,
        "history.html",
        rows=list(islice(lines, first, first + _ROWS)),
        total=len(lines),
        octets=sum(int(entry["bytes"]) for entry, _ in lines),
        rounds=sum(entry["what"] == "manifest" for entry, _ in lines),
        number=page_number,
        more=first + _ROWS < len(lines),
    )
