"""Becoming a member while a person leaves, in another process of the same home."""

from __future__ import annotations

from contextlib import AbstractContextManager

import httpx
import lying_coordinator
from lying_coordinator import STUDY, Coordinator, Trainer, ledgered

from participant import setup
from participant.progress import Lines
from participant.settings import Home
from participant.steps.desk import Site
from participant.steps.membership import join, leave

coordinator, home = lying_coordinator.coordinator, lying_coordinator.home


class LeftMeanwhile(Coordinator):
    """Takes a site as a member, just as a person has it leave."""

    def __init__(self, home: Home) -> None:
        super().__init__()
        self.home = home

    def study(self) -> dict[str, object]:
        return super().study() | {"member": False}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PUT" and request.url.path.endswith("/membership"):
            with opened(self.home, Coordinator()) as site:
                leave(site, site.client.studies()[0])
        return super().__call__(request)


def opened(home: Home, coordinator: Coordinator) -> AbstractContextManager[Site]:
    http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(coordinator))
    return setup.open_site(home, Lines(), make_trainer=lambda study: Trainer(), http=http)


def test_who_leaves_while_joining_is_no_member(home: Home) -> None:
    coordinator = LeftMeanwhile(home)
    with opened(home, coordinator) as site:
        assert join(site, site.client.studies()[0]) is None
        assert site.record.has_left(STUDY)
    assert [method for method, path, _ in coordinator.sent if path.endswith("/membership")] == ["PUT", "DELETE"]
    assert len(ledgered(home, "left")) == 1
