"""Federations brought to life from their folders: the coordinator behind the hostile layer, and every agent's loop."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import tiny_federation as tiny
import uvicorn
from hostile import Exchange, Hostile
from staged import Ahead, Federation, Seat
from tiny_federation import Hospital, Server

from coordinator.app import create_app, open_services
from coordinator.conductor import Conductor
from coordinator.settings import load
from coordinator.store import operators
from participant import setup
from participant.agent import StudyLoop
from participant.files import write_whole
from participant.policy import Policy
from participant.progress import Lines
from participant.settings import Config, Home, dump
from participant.steps.desk import Desk

_CERTIFICATES = ssl.create_default_context()


@dataclass(frozen=True)
class Snapshot:
    """A federation at rest: its folder, and what cannot be read there."""

    folder: Path
    scheme: str
    study: UUID
    token: str
    log: tuple[Exchange, ...]


@contextmanager
def federation(folder: Path, caplog: pytest.LogCaptureFixture | None, snapshot: Snapshot) -> Iterator[Federation]:
    """A snapshot come to life in `folder`, a copy of its own: every agent and the coordinator as after a restart."""
    hostile, clock = Hostile(list(snapshot.log)), Ahead()
    with ExitStack() as stack:
        server = stack.enter_context(_serving(folder / "coordinator", hostile, snapshot.token))
        services = server.services
        conductor = Conductor(services.store, services.blobs, clock, recent_seconds=float("inf"))
        staged = Federation(snapshot.scheme, server, hostile, conductor, clock, caplog, snapshot.study)
        for number in range(1, len(list(folder.glob("site-*"))) + 1):
            home = Home(folder / f"site-{number}")
            write_whole(home.config, dump(_config(folder, number, server.url)).encode())
            hospital = Hospital(home, tiny.TinyTrainer(number))
            staged.seats.append(Seat(hospital, stack.enter_context(_loop(hospital, server.url))))
        yield staged


@contextmanager
def _loop(hospital: Hospital, url: str) -> Iterator[StudyLoop]:
    """As `Hospital.loop`, without loading certificates anew for each agent of each test."""
    http = httpx.Client(base_url=url, verify=_CERTIFICATES, timeout=30)
    with setup.open_site(hospital.home, Lines(), make_trainer=lambda study: hospital.trainer, http=http) as site:
        (study,) = site.client.studies()
        if not study.member:
            site.client.join(study.id)
        yield StudyLoop(Desk(site, study), inline=True)


def found(folder: Path, scheme_name: str, sites: int, recipe: dict[str, Any] = tiny.RECIPE, **wishes: Any) -> Snapshot:
    """A new study and its enrolled members, which have not looked at it yet."""
    tiny.save_first_model(folder / "first.safetensors", recipe=recipe)
    wishes = {"scheme": scheme_name, "expected_sites": sites, "minimum_contributors": 3} | wishes
    hostile = Hostile()
    with _serving(folder / "coordinator", hostile) as server:
        study = server.create_study(folder / "first.safetensors", **wishes)["id"]
        for number in range(1, sites + 1):
            home = Home(folder / f"site-{number}")
            setup.make_home(home, _config(folder, number, server.url), "auto")
            set_policy(home, Policy(peers="auto"))
            setup.enrol(home, server.invite())
        token = server.http.headers["Authorization"].removeprefix("Bearer ")
    return Snapshot(folder, scheme_name, UUID(study), token, ())


def set_policy(home: Home, policy: Policy) -> None:
    write_whole(home.policy, dump(policy).encode())


def _config(folder: Path, number: int, url: str) -> Config:
    return Config(name=f"site-{number}", coordinator=url, data=str(folder))


@contextmanager
def _serving(data_dir: Path, hostile: Hostile, token: str | None = None) -> Iterator[Server]:
    """The coordinator without a conductor of its own, behind the hostile layer, on a free port."""
    services = open_services(load({"data_dir": data_dir, "enrolments_per_minute": 1000}))
    app = hostile.before(create_app(services))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    tiny.wait_until(lambda: server.started, "the server to start")
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    if token is None:
        now = services.clock.now()
        token = services.store.run("operator", lambda s: operators.add(s, "test", "operator", "operator:test", now))

    def stop() -> None:
        server.should_exit = True
        thread.join()

    operator = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=operator, verify=_CERTIFICATES, timeout=30) as http:
        try:
            yield Server(services, url, http, stop)
        finally:
            stop()
            services.store.close()
