"""A federation small enough for tests: a real coordinator, real agents, a trainer of a few thousand numbers.

Used in one process (a server thread and agent threads) by tests/interop, and across processes by tests/faults.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tiny_trainer import CLASSES, TinyTrainer

from coordinator.app import create_app, open_services
from coordinator.services import Services
from coordinator.settings import load
from coordinator.store import invitations, operators
from crypto.canonical import canonical
from crypto.layout import Layout, Tensor
from models.pooled import count_fields
from participant import setup
from participant.agent import Agent, StudyLoop, Until
from participant.progress import Lines
from participant.settings import Config, Home
from participant.steps.desk import Desk, Site

N_MAX = 100
BINS = 4
LAYOUT = Layout(
    (Tensor("weight", (60, 50), "parameter"), Tensor("bias", (), "parameter"), Tensor("mean", (40,), "buffer")),
    count_fields(CLASSES, BINS),
)
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "network": {"name": "none", "classes": ["healthy", "ill"]},
    "federation": {"rounds": 2, "weighting": "samples", "minimum_contributors": 3, "n_max": N_MAX, "fraction": 1.0},
}


def recipe(training: dict[str, Any] | None = None, **federation: Any) -> dict[str, Any]:
    """`RECIPE` with other terms."""
    return RECIPE | {"federation": RECIPE["federation"] | federation} | ({"training": training} if training else {})


def save_first_model(path: Path, layout: Layout = LAYOUT, recipe: dict[str, Any] = RECIPE) -> NDArray[np.float32]:
    """A model file as `pleura-participant model new` writes it; returns its flat vector."""
    vector = np.random.default_rng(7).normal(0, 0.5, layout.size).astype(np.float32)
    metadata = {"format": "pleura/model/v1", "layout": _text(layout.to_json()), "recipe": _text(recipe)}
    save_file({t.name: vector[place].reshape(t.shape) for t, place in layout.slices()}, path, metadata)
    return vector


def read_vector(path: Path, layout: Layout = LAYOUT) -> NDArray[np.float32]:
    tensors = load_file(path)
    return np.concatenate([tensors[t.name].ravel() for t in layout.tensors])


def _text(value: Any) -> str:
    return canonical(value).decode()


@dataclass
class Server:
    """A coordinator on a free port of this machine, in a thread."""

    services: Services
    url: str
    http: httpx.Client
    stop: Callable[[], None]

    def invite(self) -> str:
        now = self.services.clock.now()
        return self.services.store.run("invite", lambda s: invitations.create(s, "test", 1, "operator:test", now))[0]

    def create_study(self, model: Path, **wishes: Any) -> dict[str, Any]:
        uploaded = self._done(self.http.post("/v1/models", content=model.read_bytes()))
        wish = {"name": "tiny", "model": uploaded["model"], "scheme": "lwe-ckks", **wishes}
        study = self._done(self.http.post("/v1/studies", json=wish))
        return self._done(self.http.post(f"/v1/studies/{study['id']}/start"))

    def study(self, study: str) -> dict[str, Any]:
        return self._done(self.http.get(f"/v1/studies/{study}"))

    def rounds(self, study: str) -> list[dict[str, Any]]:
        """Every attempt, with its plan in place of the plan's digest."""
        rows = self._done(self.http.get(f"/v1/studies/{study}/rounds"))
        plans = [f"/v1/studies/{study}/rounds/{row['round']}/{row['attempt']}/plan" for row in rows]
        return [row | {"plan": self._done(self.http.get(plan))} for row, plan in zip(rows, plans, strict=True)]

    def vector(self, digest: str, folder: Path, layout: Layout = LAYOUT) -> NDArray[np.float32]:
        file = folder / "downloaded.safetensors"
        file.write_bytes(self.http.get(f"/v1/models/{digest}").raise_for_status().content)
        return read_vector(file, layout)

    @staticmethod
    def _done(response: httpx.Response) -> Any:
        assert response.is_success, response.text
        return response.json()


@contextlib.contextmanager
def serving(data_dir: Path) -> Iterator[Server]:
    services = open_services(load({"data_dir": data_dir, "poll_seconds": 0.05, "enrolments_per_minute": 1000}))
    server = uvicorn.Server(
        uvicorn.Config(create_app(services, conduct=True), port=0, log_config=None, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server to start")
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    now = services.clock.now()
    token = services.store.run("operator", lambda s: operators.add(s, "test", "operator", "operator:test", now))

    def stop() -> None:
        server.should_exit = True
        thread.join()

    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as http:
        try:
            yield Server(services, url, http, stop)
        finally:
            stop()
            services.store.close()


@dataclass
class Hospital:
    """An agent in this process. `connect`: how it reaches the coordinator, if not at the address of its config."""

    home: Home
    trainer: TinyTrainer
    connect: Callable[[], httpx.Client] | None = None
    until: Until = "finished"
    agent: Agent = field(default_factory=Agent)
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, name=self.home.path.name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with self.open(pause=self.agent.pause) as site:
            self.agent.run(site, self.until)

    @contextlib.contextmanager
    def open(self, pause: Callable[[float], None] | None = None) -> Iterator[Site]:
        http = self.connect and self.connect()
        with setup.open_site(self.home, Lines(), pause=pause, make_trainer=lambda _: self.trainer, http=http) as site:
            yield site

    @contextlib.contextmanager
    def loop(self, name: str = "tiny") -> Iterator[StudyLoop]:
        """The study's loop, to be looked through step by step by a test, contributions made within the look."""
        with self.open() as site:
            study = next(study for study in site.client.studies() if study.name == name)
            if not study.member:
                site.client.join(study.id)
            yield StudyLoop(Desk(site, study), inline=True)

    def stop(self) -> None:
        self.agent.stop()
        if self.thread is not None:
            self.thread.join(10)

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (json.loads(line) for line in self.home.ledger.read_text().splitlines())
        return [line for line in lines if line["event"] == name]

    def keys_had(self) -> int:
        """Keys that it was ever given, those that it was asked to deal, as any member may be, among them."""
        return len(self.events("key-received")) + len(self.events("key-dealt"))

    def timings(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.home.timings.read_text().splitlines()]


def make_hospital(folder: Path, url: str, invitation: str, number: int, **trainer: Any) -> Hospital:
    """A new home with the policy `auto`, enrolled."""
    home = Home(folder / f"site-{number}")
    setup.make_home(home, Config(name=f"site-{number}", coordinator=url, data=str(folder)), "auto")
    setup.enrol(home, invitation)
    return Hospital(home, TinyTrainer(number, **trainer))


def expected_model(
    base: NDArray[np.float32], rows: Sequence[dict[str, Any]], trainers: Sequence[TinyTrainer], layout: Layout = LAYOUT
) -> NDArray[np.float64]:
    """What complete training rounds of all these trainers make of a model, in float64, clipping residuals included."""
    model = base.astype(np.float64)
    residuals = [np.zeros(layout.size) for _ in trainers]
    sizes = [tensor.size for tensor in layout.tensors]
    for row in rows:
        if row["kind"] != "training" or row["state"] != "complete":
            continue
        total, weights = np.zeros(layout.size), 0.0
        for number, trainer in enumerate(trainers):
            weight = min(trainer.samples, N_MAX) / N_MAX
            update = trainer.update(layout.size, row["round"]).astype(np.float64) + residuals[number]
            limit = np.repeat(row["plan"]["bounds"], sizes) / weight
            sent = np.clip(update, -limit, limit)
            residuals[number] = update - sent
            total, weights = total + weight * sent, weights + weight
        model = model + total / weights
    return model


def check_model(
    found: NDArray[np.float32],
    base: NDArray[np.float32],
    rows: Sequence[dict[str, Any]],
    trainers: Sequence[TinyTrainer],
    layout: Layout = LAYOUT,
    allowed: float = 1e-6,
) -> None:
    """Assert that a model is the float64 one within `allowed` of the bound for each round, as the protocol promises."""
    completed = [row for row in rows if row["kind"] == "training" and row["state"] == "complete"]
    sizes = [tensor.size for tensor in layout.tensors]
    limit = sum(allowed * np.repeat(row["plan"]["bounds"], sizes) for row in completed) + 1e-6  # and float32's own
    error = np.abs(found - expected_model(base, rows, trainers, layout))
    assert (error < limit).all(), f"{error.max()}, {(error / limit).max()} of what is allowed"
    assert np.abs(found - base).max() > 0.01, "nothing was learnt"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Poll a condition that other threads or processes bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.05)
