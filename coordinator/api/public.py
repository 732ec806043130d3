"""Who this coordinator is, and its log."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from coordinator.api.paging import LINKED, Paged
from coordinator.api.values import AuditRow, Status, Text
from coordinator.auth import CallingAuditor
from coordinator.services import Services, services_of
from coordinator.store import lists
from crypto.parameters import PROTOCOL_VERSION

router = APIRouter()


async def _services(request: Request) -> Services:
    return services_of(request)


Serving = Annotated[Services, Depends(_services)]


@router.get("/v1/status", tags=["service"])
def status(services: Serving) -> Status:
    """Which product, protocols and coordinator this is."""
    return Status(
        product="pleura",
        version=version("pleura"),
        protocols=[PROTOCOL_VERSION],
        coordinator=services.coordinator,
        time=services.clock.now(),
    )


@router.get("/v1/audit", tags=["audit"], responses=LINKED)
def audit_rows(
    services: Serving,
    _: CallingAuditor,
    page: Paged,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="the last page's last `seq`")] = 0,
    action: Annotated[Text | None, Query(description="`study.start`, or `study.` for all that begin so")] = None,
    actor: Annotated[Text | None, Query(description="`operator:NAME`, `site:ID` or `conductor`")] = None,
    since: Annotated[float | None, Query(description="Unix seconds")] = None,
) -> list[AuditRow]:
    """The hash-chained log, oldest first."""
    rows = services.store.read("audit", lambda s: lists.audit(s, page.rows, after, action, actor, since))
    return [AuditRow.model_validate(row) for row in page.cut(rows, lambda row: row.seq)]
