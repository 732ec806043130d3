"""Calls for everybody, and for those who watch over the service."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import text

from coordinator.api.values import AuditRow, Status
from coordinator.auth import CallingAuditor
from coordinator.errors import CoordinatorError
from coordinator.monitoring import Monitor
from coordinator.services import Services, services_of
from coordinator.store import audit
from crypto.parameters import PROTOCOL_VERSION

router = APIRouter(tags=["service"])
Serving = Annotated[Services, Depends(services_of)]


@router.get("/v1/status")
def status(services: Serving) -> Status:
    """Which product, protocols and coordinator this is."""
    return Status(
        product="pleura",
        version=version("pleura"),
        protocols=[PROTOCOL_VERSION],
        coordinator=services.coordinator,
        time=services.clock.now(),
    )


@router.get("/healthz", response_class=Response)
def healthz() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz", response_class=Response)
def readyz(services: Serving) -> Response:
    """Database and blob store answer as well; 503 while they do not."""
    try:
        services.store.read("ready", lambda session: session.execute(text("SELECT 1")))
        services.blobs.put_bytes("probes/ready", b"ready")
    except Exception as error:
        # Whatever keeps it from serving makes it unready; the kind is told, the text (addresses, paths) is not.
        kind = error.detail if isinstance(error, CoordinatorError) else type(error).__name__
        return Response(f"not ready: {kind}\n", 503, media_type="text/plain")
    return Response("ready\n", media_type="text/plain")


@router.get("/metrics", response_class=Response)
def metrics(request: Request, _: CallingAuditor) -> Response:
    """For Prometheus, with an auditor's token."""
    monitor: Monitor = request.app.state.monitor
    return Response(monitor.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/audit")
def audit_rows(services: Serving, _: CallingAuditor, after: Annotated[int, Query(ge=0)] = 0) -> list[AuditRow]:
    """Rows of the hash-chained log with higher numbers, oldest first, at most 500."""
    rows = services.store.read("audit", lambda session: audit.rows_after(session, after))
    return [AuditRow.model_validate(row) for row in rows]
