"""Word that something changed, as server-sent events: the script then fetches the page that it is on anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Final

import anyio
from fastapi import APIRouter, Header, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from coordinator.api.public import Serving
from coordinator.services import Services
from coordinator.store import audit_search, logins
from coordinator.web.visits import Looking

router = APIRouter()
_QUIET_SECONDS: Final = 15.0  # proxies take a line on which nothing is said for a broken one
_RETRY: Final = b"retry: 2000\n\n"  # milliseconds


@router.get("/events")
async def events(
    services: Serving,
    visit: Looking,
    after: Annotated[int, Query(ge=0)] = 0,
    last_event_id: Annotated[str, Header()] = "",
) -> StreamingResponse:
    """`changed` whenever the audit log grew past `after`, the row that the page shows; `over` when the login is."""
    seen = int(last_event_id) if last_event_id.isdecimal() else after
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(changes(services, visit.login, seen), headers=headers, media_type="text/event-stream")


async def changes(services: Services, login: str, seen: int) -> AsyncIterator[bytes]:
    """The events, until the login or the process is over. Between two looks it holds no connection and no thread."""
    yield _RETRY
    said = anyio.current_time()
    while not services.stopping.is_set():
        newest = await run_in_threadpool(_newest, services, login)
        if newest is None:
            yield b"event: over\ndata: \n\n"
            return
        if newest > seen:
            seen, said = newest, anyio.current_time()
            yield b"id: %d\nevent: changed\ndata: %d\n\n" % (newest, newest)
        elif anyio.current_time() - said > _QUIET_SECONDS:
            said = anyio.current_time()
            yield b": still here\n\n"
        await anyio.sleep(services.settings.poll_seconds)


def _newest(services: Services, login: str) -> int | None:
    """The audit log's newest row; None if the login is over."""
    now = services.clock.now()

    def look(session: Session) -> int | None:
        return audit_search.newest(session) if logins.find(session, login, now) is not None else None

    return services.store.read("look for changes", look)
