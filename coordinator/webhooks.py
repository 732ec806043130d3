"""The worker that tells webhooks what happened, signed in the manner of the Standard Webhooks specification.

At least once: a receiver may be told again of what it answered to, and knows by the id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from http import HTTPStatus
from typing import Final

import httpcore

from coordinator.clock import Clock
from coordinator.outbound import AddressRefused, Outbound
from coordinator.store import webhooks
from coordinator.store.database import Store
from coordinator.store.webhooks import SECRET_PREFIX, Sending
from coordinator.worker import Worker

CLAIM_SECONDS: Final = 60.0  # longer than a try takes (`outbound.TRY_SECONDS`, and the search for the name)
STOP_SECONDS: Final = 5.0
_TICK_SECONDS: Final = 1.0
_FAILURES: Final = (
    AddressRefused,
    OSError,
    UnicodeError,  # a name that the resolver cannot spell
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)

log = logging.getLogger(__name__)


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """What the header `webhook-signature` has: HMAC-SHA256 over id, time (Unix seconds) and body."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class Courier(Worker):
    """One worker. Several, on one database, share the deliveries.

    Stopped, it leaves a try that takes longer than 5 s; it is made again when its claim runs out.
    """

    def __init__(self, store: Store, clock: Clock, outbound: Outbound) -> None:
        super().__init__("courier", STOP_SECONDS)
        self._store, self._clock, self._outbound = store, clock, outbound

    def run(self) -> None:
        """Deliver until `stop` is called; an error is logged, never fatal."""
        while not self._stop.is_set():
            busy = False
            try:
                busy = self.deliver_once()
            except Exception:
                log.exception("the courier could not look for deliveries; it tries again")
            if not busy:
                self._stop.wait(_TICK_SECONDS)

    def deliver_once(self) -> bool:
        """Try the delivery that waits longest; False if none is due."""
        now = self._clock.now()
        if not self._store.read("look for deliveries", lambda session: webhooks.pending(session, now)):
            return False
        self._store.run("collect deliveries", lambda session: webhooks.collect(session, now))
        sending = self._store.run("claim delivery", lambda session: webhooks.claim(session, now, CLAIM_SECONDS))
        if sending is None:
            return False
        fault = self._send(sending)
        if fault is not None:
            log.warning("webhook %s, try %d: %s", sending.webhook, sending.tries, fault)
        self._store.run("note delivery", lambda session: webhooks.note(session, sending, fault, self._clock.now()))
        return True

    def _send(self, sending: Sending) -> str | None:
        """What went wrong, in words without the address; None: it was taken."""
        name, timestamp = str(sending.id), int(self._clock.now())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "pleura-coordinator",
            "webhook-id": name,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(sending.secret, name, timestamp, sending.body),
        }
        try:
            status = self._outbound.post(sending.url, headers, sending.body)
        except _FAILURES as error:
            return f"not delivered: {type(error).__name__}: {error}"
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return None
        redirected = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
        return f"answered {status}{'; redirects are not followed' if redirected else ''}"
