"""Webhooks, and what is on its way to them.

What is told is in the audit log already, written in the transaction that did it: each webhook reads on in the log from
where it was, so nothing is told that did not happen, and nothing that happened is lost.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit
from uuid import UUID, uuid4, uuid5

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from coordinator.errors import NotFound
from coordinator.store import audit
from coordinator.store.tables import Audit, Delivery, Study, Webhook

Event = Literal["round.completed", "round.failed", "study.paused", "study.finished", "study.stopped"]
EVENTS: Final[tuple[Event, ...]] = get_args(Event)

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - names the kind of secret; the one of the Standard Webhooks specification
_SECRET_BYTES: Final = 32
_OF_ACTION: Final[Mapping[str, Event]] = MappingProxyType(
    {
        "round.complete": "round.completed",
        "round.failed": "round.failed",
        "study.pause": "study.paused",
        "study.paused": "study.paused",
        "study.ended-early": "study.finished",
        "study.finished": "study.finished",
        "study.stop": "study.stopped",
    }
)
_KEPT_SECONDS: Final = 30 * 24 * 3600.0  # that a delivery is shown after its end
RESTS: Final = (10.0, 60.0, 600.0, 3600.0, 4 * 3600.0, 12 * 3600.0, 24 * 3600.0)  # seconds before the next try


@dataclass(frozen=True, slots=True)
class Sending:
    """One try at telling a webhook of an event. `id` is the same in every try: receivers tell repeats by it."""

    id: UUID
    webhook: UUID
    seq: int
    tries: int
    url: str = field(repr=False)  # its path may be as good as a password at the receiver's
    secret: str = field(repr=False)
    body: bytes


def add(session: Session, url: str, events: Collection[Event], actor: str, now: float) -> tuple[Webhook, str]:
    """A new webhook, told of what happens from now on, and the secret that signs what is sent, shown this once."""
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    chosen = [event for event in EVENTS if event in events]
    row = Webhook(id=uuid4(), url=url, secret=secret, events=chosen, created=now, seen=_newest(session))
    session.add(row)
    # Its path may be as good as a password at the receiver's, so that the log names the host alone.
    detail = {"webhook": str(row.id), "host": urlsplit(url).hostname, "events": chosen}
    audit.append(session, now, actor, "webhook.added", detail)
    return row, secret


def everyone(session: Session) -> list[Webhook]:
    """All webhooks, oldest first."""
    return list(session.scalars(select(Webhook).order_by(Webhook.created, Webhook.id)))


def remove(session: Session, webhook: UUID, actor: str, now: float) -> None:
    """Tell a webhook nothing any more; what was on its way is dropped.

    Raises:
        NotFound: there is no such webhook.
    """
    row = get(session, webhook)
    session.execute(delete(Delivery).where(Delivery.webhook_id == webhook))
    session.delete(row)
    audit.append(session, now, actor, "webhook.removed", {"webhook": str(webhook), "host": urlsplit(row.url).hostname})


def get(session: Session, webhook: UUID) -> Webhook:
    """Raises NotFound."""
    row = session.get(Webhook, webhook)
    if row is None:
        raise NotFound(f"There is no webhook {webhook}. `GET /v1/webhooks` lists them all.")
    return row


def counts(session: Session, webhook: UUID) -> tuple[int, int]:
    """How many deliveries are on their way, and how many of the last 30 days were given up."""
    query = select(func.count()).select_from(Delivery).where(Delivery.webhook_id == webhook)
    waiting = session.scalar(query.where(Delivery.ended.is_(None))) or 0
    given_up = session.scalar(query.where(Delivery.ended.is_not(None), Delivery.fault.is_not(None))) or 0
    return waiting, given_up


def deliveries(session: Session, webhook: UUID, after: int, limit: int) -> list[tuple[Delivery, Audit]]:
    """A webhook's deliveries behind the audit row `after`, oldest first, each with the row that it tells of."""
    query = select(Delivery, Audit).join(Audit, Audit.seq == Delivery.seq)
    query = query.where(Delivery.webhook_id == webhook, Delivery.seq > after)
    return [(row[0], row[1]) for row in session.execute(query.order_by(Delivery.seq).limit(limit))]


def pending(session: Session, now: float) -> bool:
    """Whether there is an event that a webhook was not told of, or a delivery to try."""
    if session.scalar(select(Delivery.seq).where(Delivery.due <= now).limit(1)) is not None:
        return True
    return any(_news(session, webhook) for webhook in everyone(session))


def collect(session: Session, now: float) -> None:
    """Make a delivery of each event that a webhook is to be told of, and forget those that ended long ago."""
    for webhook in everyone(session):
        news = _news(session, webhook)
        wanted = [row for row in news if _OF_ACTION[row.action] in webhook.events]
        session.add_all(Delivery(webhook_id=webhook.id, seq=row.seq, due=now) for row in wanted)
        webhook.seen = news[-1].seq if news else webhook.seen
    session.execute(delete(Delivery).where(Delivery.ended < now - _KEPT_SECONDS))
    session.flush()


def claim(session: Session, now: float, seconds: float) -> Sending | None:
    """The delivery that waits longest, for the caller alone for so many seconds; None: nothing is due.

    A process that ends before it says how the try went holds nobody up: the delivery is due again after that time.
    """
    row = session.scalar(
        select(Delivery).where(Delivery.due <= now).order_by(Delivery.due).limit(1).with_for_update(skip_locked=True)
    )
    if row is None:
        return None
    row.tries, row.due = row.tries + 1, now + seconds
    webhook = session.get_one(Webhook, row.webhook_id)
    told = session.get_one(Audit, row.seq)
    name = message_id(row, told)
    body = json.dumps(message(session, name, told), sort_keys=True).encode()
    return Sending(name, webhook.id, row.seq, row.tries, webhook.url, webhook.secret, body)


def note(session: Session, sending: Sending, fault: str | None, now: float) -> None:
    """How a try went: None is well; else it is tried again after a rest, or given up after the last."""
    row = session.get(Delivery, (sending.webhook, sending.seq))
    if row is None or row.due is None or (fault is not None and row.tries != sending.tries):
        return  # removed meanwhile, or another process is at it
    row.fault = fault
    if fault is None or row.tries > len(RESTS):
        row.due, row.ended = None, now
    else:
        row.due = now + RESTS[row.tries - 1]


def message_id(row: Delivery, told: Audit) -> UUID:
    """Of the log's hash, not its number: that names another event after a backup was restored."""
    return uuid5(row.webhook_id, told.hash)


def event_of(row: Audit) -> Event:
    """Which event an audit row that `collect` took is."""
    return _OF_ACTION[row.action]


def message(session: Session, name: UUID, row: Audit) -> dict[str, Any]:
    """What a webhook is told: which event, where and when. Figures are for members; reasons may name sites."""
    study = session.get_one(Study, UUID(row.detail["study"]))
    return {
        "id": str(name),
        "time": row.time,
        "event": event_of(row),
        "study": {"id": str(study.id), "name": study.name},
        "round": row.detail.get("round"),
        "attempt": row.detail.get("attempt"),
    }


def _news(session: Session, webhook: Webhook) -> Sequence[Audit]:
    query = select(Audit).where(Audit.seq > webhook.seen, Audit.action.in_(_OF_ACTION))
    return session.scalars(query.order_by(Audit.seq)).all()


def _newest(session: Session) -> int:
    return session.scalar(select(func.max(Audit.seq))) or 0
