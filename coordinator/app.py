"""The service put together: routers, problems, limits, the page, and the conductor beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.staticfiles import StaticFiles

from coordinator import problems
from coordinator.api import (
    answers,
    contributions,
    enrolment,
    keys,
    models,
    openapi,
    outcomes,
    public,
    rounds,
    sealed_models,
    site_evaluations,
    spot_checks,
    studies,
    sums,
)
from coordinator.clock import Clock, SystemClock
from coordinator.conductor import Conductor
from coordinator.limits import BodyLimit
from coordinator.monitoring import Counted, Monitor
from coordinator.services import Services
from coordinator.settings import Settings
from coordinator.store.blobs import Blobs
from coordinator.store.database import Store
from coordinator.web import pages
from migrations import upgrade

_STATIC: Final = Path(__file__).parent / "web" / "static"
_ROUTERS: Final = (
    public.router,
    enrolment.router,
    studies.router,
    keys.router,
    rounds.router,
    answers.router,
    outcomes.router,
    sums.router,
    spot_checks.router,
    site_evaluations.router,
    contributions.router,
    models.router,
    sealed_models.router,
    pages.router,
)


def open_services(settings: Settings, clock: Clock | None = None) -> Services:
    """The database brought up to date, and everything that stands on it. Folders are the coordinator's alone."""
    for folder in (settings.data_dir, settings.blobs, settings.incoming):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    upgrade(settings.database)
    return Services(settings, Store(settings.database), Blobs(settings.blobs), clock or SystemClock())


def create_app(services: Services, *, conduct: bool = False) -> FastAPI:
    """The ASGI app. With `conduct` a conductor thread advances rounds for as long as the app is up."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not conduct:
            yield
            return
        conductor = Conductor(services.store, services.blobs, services.clock, services.settings.recent_seen_seconds)
        conductor.start()
        try:
            yield
        finally:
            await run_in_threadpool(conductor.stop)

    app = FastAPI(
        title="Pleura coordinator",
        version=version("pleura"),
        description="Hospitals train one model together; the coordinator adds what it cannot read.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere; openapi.json is all a client needs
        redoc_url=None,
    )
    app.state.services, app.state.monitor = services, Monitor(services.store)
    problems.install(app)
    for router in _ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    settings = services.settings
    app.add_middleware(BodyLimit, message_bytes=settings.max_message_bytes, model_bytes=settings.max_model_bytes)
    app.add_middleware(Counted, monitor=app.state.monitor)
    openapi.install(app)
    return app
