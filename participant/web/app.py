"""The page as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from participant.policy import Refused
from participant.web.pages import cases, data, diagnose, history, login, status
from participant.web.rendering import refusal
from participant.web.security import Guard
from participant.web.settings import Page


def create_app(page: Page, hosts: frozenset[str]) -> FastAPI:
    """hosts: names under which the page may be asked for."""

    @asynccontextmanager
    async def working(_: FastAPI) -> AsyncIterator[None]:
        page.jobs.start()
        yield
        page.jobs.close()

    app = FastAPI(lifespan=working, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.page = page
    app.add_middleware(Guard, hosts=hosts, limit=page.limits.upload)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    shown = (diagnose, cases) if page.public else (status, data, history, diagnose, cases, login)
    for module in shown:
        app.include_router(module.router)
    if page.public:
        app.add_api_route("/", diagnose.form, methods=["GET"])
    app.add_exception_handler(HTTPException, _no_such_page)
    return app


async def _no_such_page(request: Request, error: Exception) -> Response:
    return refusal(request, Refused("gone", "There is no such page here, or no longer."))
