"""Webhooks: addresses of other services that are told when a round or a study ends."""

from __future__ import annotations

from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from coordinator.api.openapi import refusals
from coordinator.api.paging import LINKED, Paged
from coordinator.api.public import Serving
from coordinator.auth import CallingOperator
from coordinator.errors import NotFound, RequestInvalid
from coordinator.outbound import Outbound
from coordinator.services import Services
from coordinator.store import tables, webhooks
from coordinator.store.webhooks import EVENTS, Event

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


class WebhookWish(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"url": "https://example.org/pleura", "events": ["round.failed"]}]},
    )

    url: Annotated[str, Field(min_length=1, max_length=2000, description="https, at a public address")]
    events: Annotated[list[Event], Field(min_length=1, max_length=len(EVENTS))] = list(EVENTS)


class Webhook(BaseModel):
    """`waiting`: deliveries on their way; `given_up`: of the last 30 days that were tried in vain for two days."""

    id: UUID
    url: str
    events: list[Event]
    created: float
    waiting: int
    given_up: int

    @classmethod
    def of(cls, session: Session, row: tables.Webhook) -> Self:
        waiting, given_up = webhooks.counts(session, row.id)
        events = [event for event in EVENTS if event in row.events]
        return cls(id=row.id, url=row.url, events=events, created=row.created, waiting=waiting, given_up=given_up)


class NewWebhook(Webhook):
    """`secret` signs what is sent; it is shown this once."""

    secret: str


class Delivery(BaseModel):
    """One event on its way: `due` is when it is tried next, null once it `ended`, with a `fault` if it was given up."""

    id: UUID
    seq: int
    event: Event
    time: float
    tries: int
    due: float | None
    ended: float | None
    fault: str | None


def register(services: Services, wish: WebhookWish, actor: str) -> NewWebhook:
    """Raises RequestInvalid for an address that nothing would be sent to."""
    Outbound.of(services.settings).check(wish.url)
    now = services.clock.now()

    def add(session: Session) -> NewWebhook:
        row, secret = webhooks.add(session, wish.url, wish.events, actor, now)
        return NewWebhook(**Webhook.of(session, row).model_dump(), secret=secret)

    return services.store.run("add webhook", add)


@router.post("", status_code=201, responses=refusals(RequestInvalid))
def add_webhook(services: Serving, operator: CallingOperator, wish: WebhookWish) -> NewWebhook:
    """Tell an address of events from now on. The secret that signs what is sent is shown here and never again."""
    return register(services, wish, f"operator:{operator.name}")


@router.get("")
def list_webhooks(services: Serving, _: CallingOperator) -> list[Webhook]:
    """All webhooks, oldest first."""
    return services.store.read("webhooks", lambda s: [Webhook.of(s, row) for row in webhooks.everyone(s)])


@router.get("/{webhook}/deliveries", responses=LINKED | refusals(NotFound))
def list_deliveries(
    services: Serving,
    _: CallingOperator,
    webhook: UUID,
    page: Paged,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="the last page's last `seq`")] = 0,
) -> list[Delivery]:
    """What a webhook was told, or is yet to be, oldest first; those that ended are shown for 30 days."""

    def look(session: Session) -> list[Delivery]:
        rows = webhooks.deliveries(session, webhooks.get(session, webhook).id, after, page.rows)
        return [
            Delivery(
                id=webhooks.message_id(row, told),
                seq=row.seq,
                event=webhooks.event_of(told),
                time=told.time,
                tries=row.tries,
                due=row.due,
                ended=row.ended,
                fault=row.fault,
            )
            for row, told in rows
        ]

    return list(page.cut(services.store.read("deliveries", look), lambda delivery: delivery.seq))


@router.delete("/{webhook}", status_code=204, responses=refusals(NotFound))
def remove_webhook(services: Serving, operator: CallingOperator, webhook: UUID) -> None:
    """Tell it nothing any more; what was on its way is dropped."""
    actor, now = f"operator:{operator.name}", services.clock.now()
    services.store.run("remove webhook", lambda session: webhooks.remove(session, webhook, actor, now))
