"""For what watches over the service: whether it lives, whether it can serve, and its numbers."""

from __future__ import annotations

import hmac
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from coordinator.api.openapi import refusals
from coordinator.auth import bearer, caller, reader
from coordinator.errors import NotReady
from coordinator.monitoring import Monitor
from coordinator.readiness import OK, Readiness
from coordinator.services import services_of

router = APIRouter(tags=["service"])
CONDUCTOR_SECONDS: Final = 120.0  # it gives a sign of life every quarter of a second, and between any two parts


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """`checks`: "ok" by the name of each check; where one fails, all of them stand in the problem document."""

    status: Literal["ready"] = "ready"
    checks: dict[str, str]


@router.get("/healthz")
async def healthz() -> Alive:
    """The process answers. It asks nothing of the database: starting this process again would not mend that."""
    return Alive()


@router.get("/readyz", responses=refusals(NotReady))
async def readyz(request: Request) -> Ready:
    """The database answers within 2 s and is of this version, blobs can be written, and the conductor is at work.

    What was found is kept for 5 s.
    """
    readiness: Readiness = request.app.state.readiness
    checks = await readiness.checks(services_of(request)) | _conductor(request.app.state.monitor)
    faults = [f"{name}: {outcome}" for name, outcome in checks.items() if outcome != OK]
    if faults:
        raise NotReady(f"Not ready to serve. {'; '.join(faults)}. The log has more.", {"checks": checks})
    return Ready(checks=checks)


def metrics_reader(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> None:
    """Whoever has the token of the settings, or an auditor's."""
    wanted = services_of(request).settings.metrics_token
    given = credentials.credentials if credentials is not None else ""
    if not wanted or not hmac.compare_digest(given.encode(), wanted.encode()):
        reader(caller(request, credentials))


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "The exposition format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
    dependencies=[Depends(metrics_reader)],
)
def metrics(request: Request) -> Response:
    """For Prometheus, with the metrics token of the settings or an auditor's (docs/monitoring.md)."""
    monitor: Monitor = request.app.state.monitor
    return Response(monitor.text(), media_type=CONTENT_TYPE_LATEST)


def _conductor(monitor: Monitor) -> dict[str, str]:
    age = monitor.conductor_age()
    if age is None:
        return {}  # this process conducts nothing
    return {"conductor": OK if age < CONDUCTOR_SECONDS else f"no sign of life for {age:.0f} s"}
