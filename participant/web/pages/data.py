"""The last report of `check-data`."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from participant.data.checks.html import render_fragment, stylesheet
from participant.data.checks.report import Report
from participant.web.pages.status import home_of
from participant.web.rendering import PageRoute, render, visitor

router = APIRouter(route_class=PageRoute, dependencies=[Depends(visitor)])


@router.get("/data")
def data(request: Request) -> HTMLResponse:
    file, fragment, fault = home_of(request).data_report, None, ""
    if file.is_file():
        try:
            fragment = Markup(render_fragment(Report.from_json(file.read_text("utf-8"))))  # noqa: S704 - escaped there
        except ValueError:
            fault = "The last report is of another version of Pleura."
    return render(request, "data.html", fragment=fragment, fault=fault)


@router.get("/data-report.css")
def style() -> Response:
    return Response(stylesheet(), media_type="text/css")
