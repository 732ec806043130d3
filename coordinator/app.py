"""The service put together: routers, problems, limits, the page, and the conductor beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.staticfiles import StaticFiles

from coordinator import problems
from coordinator.api import (
    answers,
    contributions,
    enrolment,
    health,
    keys,
    models,
    openapi,
    operators,
    outcomes,
    public,
    rounds,
    sealed_models,
    site_evaluations,
    spot_checks,
    studies,
    sums,
    webhooks,
)
from coordinator.clock import Clock, SystemClock
from coordinator.conductor import Conductor
from coordinator.housekeeping import Housekeeper
from coordinator.limits import BodyLimit
from coordinator.monitoring import Monitor
from coordinator.outbound import Outbound
from coordinator.readiness import Readiness
from coordinator.services import Services
from coordinator.settings import Settings
from coordinator.store.blobs import Blobs
from coordinator.store.database import Store
from coordinator.watching import Watched, place
from coordinator.web import pages
from coordinator.web.security import SecurityHeaders
from coordinator.webhooks import Courier
from migrations import upgrade

_STATIC: Final = Path(__file__).parent / "web" / "static"
_ROUTERS: Final = (
    health.router,
    public.router,
    operators.router,
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
    webhooks.router,
    pages.router,
)


def open_services(settings: Settings, clock: Clock | None = None) -> Services:
    """The database brought up to date, and everything that stands on it. Folders are the coordinator's alone."""
    for folder in (settings.data_dir, settings.incoming):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    upgrade(settings.database)
    blobs = Blobs(settings.blobs_url or settings.blobs, settings.blobs_options)
    return Services(settings, Store(settings.database), blobs, clock or SystemClock())


def create_app(services: Services, *, conduct: bool = False) -> FastAPI:
    """The ASGI app. With `conduct` a conductor thread advances rounds for as long as the app is up."""

    housekeeper = Housekeeper(services.store, services.blobs, services.settings.incoming, services.clock)
    monitor = Monitor(services.clock)
    monitor.watch(services.store, services.blobs, housekeeper)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not conduct:
            yield
            return
        conductor = Conductor(
            services.store, services.blobs, services.clock, services.settings.recent_seen_seconds, monitor
        )
        courier = Courier(services.store, services.clock, Outbound.of(services.settings))
        conductor.start()
        courier.start()
        housekeeper.start()
        try:
            yield
        finally:
            await run_in_threadpool(conductor.stop)
            await run_in_threadpool(courier.stop)
            await run_in_threadpool(housekeeper.stop)

    app = FastAPI(
        title="Pleura coordinator",
        version=version("pleura"),
        description="Hospitals train one model together; the coordinator adds what it cannot read.",
        lifespan=lifespan,
        dependencies=[Depends(place)],
        docs_url=None,  # their pages load scripts from elsewhere; openapi.json is all a client needs
        redoc_url=None,
        openapi_tags=openapi.TAGS,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.services, app.state.monitor, app.state.housekeeper = services, monitor, housekeeper
    app.state.readiness = Readiness()
    problems.install(app)
    for router in _ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    settings = services.settings
    app.add_middleware(BodyLimit, message_bytes=settings.max_message_bytes, model_bytes=settings.max_model_bytes)
    app.add_middleware(Watched, monitor=monitor)
    app.add_middleware(SecurityHeaders, tls=settings.secure_cookies)
    openapi.install(app)
    return app
