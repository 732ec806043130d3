"""What every request needs, made once and handed to the app: no globals, so tests bring their own."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final, cast
from uuid import UUID

from fastapi import Request

from coordinator.clock import Clock
from coordinator.limits import MINUTE, RateLimit
from coordinator.settings import Settings
from coordinator.store import studies, tasks
from coordinator.store.blobs import Blobs
from coordinator.store.database import Store
from coordinator.store.instance import coordinator_id
from coordinator.store.tables import Site
from coordinator.surveys import Surveys

BURST_SECONDS: Final = 10  # an agent sends the parts of a small update without a pause


@dataclass(frozen=True, slots=True)
class Services:
    """`coordinator` is the id that sites address their tokens to. `stopping` is set once the process is to end.
    `known_sites` are rows as they were read once, which may have changed since (`coordinator.auth`).
    """

    settings: Settings
    store: Store
    blobs: Blobs
    clock: Clock
    stopping: threading.Event = field(default_factory=threading.Event)
    known_sites: dict[UUID, Site] = field(default_factory=dict)
    coordinator: UUID = field(init=False)
    enrolments: RateLimit = field(init=False)
    logins: RateLimit = field(init=False)
    strangers: RateLimit = field(init=False)
    requests: RateLimit = field(init=False)
    surveys: Surveys = field(init=False)

    def __post_init__(self) -> None:
        set_once = object.__setattr__  # frozen for everybody else
        set_once(self, "coordinator", self.store.run("identify", coordinator_id))
        each, tries = self.settings, "tries from this address"
        set_once(self, "enrolments", RateLimit(each.enrolments_per_minute, MINUTE, tries, self.clock))
        set_once(self, "logins", RateLimit(each.logins_per_minute, MINUTE, tries, self.clock))
        set_once(self, "strangers", RateLimit(each.refused_tokens_per_minute, MINUTE, "refused tokens", self.clock))
        burst = each.requests_per_second * BURST_SECONDS
        set_once(self, "requests", RateLimit(burst, BURST_SECONDS, "requests at once", self.clock))
        set_once(self, "surveys", Surveys(self._survey, each.spread_seconds))

    def _survey(self, study: UUID) -> tasks.Survey:
        now, recent = self.clock.now(), self.settings.recent_seen_seconds
        return self.store.read("survey", lambda s: tasks.survey(s, studies.get(s, study), now, recent))


def services_of(request: Request) -> Services:
    """The services of the app that the request came to."""
    return cast(Services, request.app.state.services)


def address_of(request: Request) -> str:
    """The caller's address, for rate limits. Behind a proxy uvicorn puts the forwarded one here."""
    return request.client.host if request.client else "unknown"
