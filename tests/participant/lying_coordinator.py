"""A coordinator in memory that serves one study, and lies when a test has it lie; an agent to meet it.

A module that uses its fixtures names them: other modules of this folder have fixtures of the same names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from crypto import epochs
from crypto.canonical import canonical, digest, sha256
from crypto.ckks_public import PublicContext
from crypto.epoch import EpochRecord
from crypto.identity import Identity
from crypto.layout import CountField, Layout, Tensor
from crypto.manifest import Ballot, Manifest, Refusal, Vote
from crypto.plan import Member, Plan, Roster
from crypto.schemes import scheme
from crypto.wire import Signed
from participant import setup
from participant.agent import StudyLoop
from participant.files import write_whole
from participant.policy import Policy
from participant.progress import Advance, Lines
from participant.record import Record
from participant.settings import Config, Home, dump
from participant.steps.desk import Desk
from participant.terms import RoundTerms

STUDY, COORDINATOR = UUID(int=50), UUID(int=60)
ME, NORTH, SOUTH, STRANGER = (UUID(int=number) for number in (1, 2, 3, 4))
LAYOUT = Layout((Tensor("w", (30, 20), "parameter"), Tensor("m", (4,), "buffer")), (CountField("cases", ()),))
RECIPE = {"name": "tiny", "network": {"classes": ["a", "b"]}, "federation": {}}
BASE = np.linspace(-1, 1, LAYOUT.size, dtype=np.float32)
IDENTITIES = {site: Identity.generate() for site in (ME, NORTH, SOUTH, STRANGER)}


class Result:
    samples, seconds, loss, state = 40, 0.5, 0.25, b"what stays here"

    def __init__(self, vector: NDArray[np.float32]) -> None:
        self.vector = vector


class Trainer:
    """Adds a constant, so that the mean is known."""

    samples = 40
    error: Exception | None = None

    def train(self, base: NDArray[np.float32], layout: Layout, terms: RoundTerms, progress: Advance) -> Result:
        progress(1, 1)
        if self.error is not None:
            raise self.error
        return Result(base + np.float32(0.25))

    def evaluate(self, base: NDArray[np.float32], layout: Layout, progress: Advance) -> list[int]:
        return [9]


class Coordinator:
    """Serves one study from its attributes, which tests change, and keeps what the agent sent."""

    def __init__(self) -> None:
        tensors = {t.name: BASE[place].reshape(t.shape) for t, place in LAYOUT.slices()}
        self.model = save(tensors)
        self.members = (ME, NORTH, SOUTH)
        self.identities = dict(IDENTITIES)
        self.epoch: dict[str, Any] = {"state": "none", "number": 1, "dealer": None, "record": None}
        self.additions: list[Any] = []
        self.missing: list[UUID] = []
        self.keys: dict[str, bytes] = {}
        self.task: dict[str, Any] = {}
        self.plan: Plan | None = None
        self.ballot: Ballot | None = None
        self.votes: list[Signed[Vote]] = []
        self.key_parts: dict[UUID, bytes] = {}
        self.parts_of: dict[UUID, list[bytes]] = {}
        self.sent: list[tuple[str, str, bytes]] = []
        self.answers: dict[str, httpx.Response] = {}
        self.rounds: list[dict[str, Any]] = []

    # --- what tests look at

    def bodies(self, pattern: str) -> list[bytes]:
        return [body for method, path, body in self.sent if re.search(pattern, f"{method} {path}")]

    def messages(self, pattern: str, kind: Any) -> list[Any]:
        return [Signed[kind].from_json(json.loads(body)).message for body in self.bodies(pattern)]

    # --- what it knows

    @property
    def roster(self) -> Roster:
        return Roster(
            study=STUDY, members=tuple(self._member(site) for site in sorted(self.members, key=lambda s: s.bytes))
        )

    def _member(self, site: UUID) -> Member:
        public = self.identities[site].public
        keys = {"signing_key": public.signing_key.hex(), "hpke_key": public.hpke_key.hex()}
        return Member(site=site, name=f"site-{site.int}", index=site.int, **keys)

    def deal(self, dealer: UUID = NORTH, members: tuple[UUID, ...] = (ME, NORTH, SOUTH)) -> epochs.Dealt:
        roster = Roster(study=STUDY, members=tuple(self._member(site) for site in members))
        dealt = epochs.deal(self.identities[dealer], dealer, STUDY, 1, roster)
        for blob in (dealt.public_context, *dealt.wraps.values()):
            self.keys[sha256(blob)] = blob
        self.epoch = {"state": "current", "number": 1, "dealer": None, "record": dealt.record.to_json()}
        return dealt

    def make_plan(self, **changes: Any) -> Plan:
        record = Signed[EpochRecord].from_json(self.epoch["record"]).message
        values: dict[str, Any] = {
            "study": STUDY, "round": 1, "attempt": 1, "kind": "training", "base_model": sha256(self.model),
            "layout": LAYOUT.digest, "recipe": digest(RECIPE), "roster": self.roster.digest, "epoch": record.digest,
            "scheme": "lwe-ckks", "release": "open", "weighting": "equal", "expected": self.members, "k_max": 16,
            "n_max": 100, "bounds": (1.0, 64.0), "threshold": None, "minimum_contributors": 3, "collect_until": 2**40,
            "vote_seconds": 60, "open_seconds": 60,
        }  # fmt: skip
        self.plan = Plan(**values | changes)
        self.task = {"phase": "collecting", "plan": self.plan.to_json(), "roster": self.roster.to_json()}
        return self.plan

    def open_ballot(self, dealt: epochs.Dealt, *sites: UUID, others_update: float = 0.5) -> Ballot:
        """A ballot of this agent's delivered contribution (if it is named) and of ones made up for the peers."""
        assert self.plan is not None
        public, manifests = PublicContext.load(dealt.public_context), []
        for site in sorted(sites, key=lambda site: site.bytes):
            if site == ME:
                manifests.append(Signed[Manifest].from_json(json.loads(self.bodies("PUT .*/manifest")[-1])))
                self.key_parts[ME] = self.bodies("PUT .*/key-parts/0")[-1]
                continue
            update = np.full(LAYOUT.size, others_update, np.float32)
            sealed = scheme("lwe-ckks").seal(self.plan, LAYOUT, update, 40, [9], public)
            parts = [bytes(part) for part in sealed]
            self.parts_of[site], self.key_parts[site] = parts, sealed.key_parts[0]
            digests = {"parts": tuple(map(sha256, parts)), "key_parts": tuple(map(sha256, sealed.key_parts))}
            manifests.append(self.identities[site].sign(Manifest(plan=self.plan.digest, site=site, **digests)))
        self.ballot = Ballot(plan=self.plan.digest, manifests=tuple(manifests))
        self.task |= {"phase": "opening", "ballot": self.ballot.digest, "contributed": True}
        return self.ballot

    def vote_of(self, site: UUID, ballot: Ballot, identity: Identity | None = None) -> None:
        self.votes.append((identity or self.identities[site]).sign(Vote(ballot=ballot.digest, site=site)))

    # --- HTTP

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/v1")
        if request.method != "GET":
            self.sent.append((request.method, path, request.content))
        for pattern, answer in self.answers.items():
            if re.search(pattern, f"{request.method} {path}"):
                return answer
        if request.method == "GET":
            return self._get(path)
        if path.endswith("/vote") and self.ballot is not None:
            self.votes.append(Signed[Vote].from_json(json.loads(request.content)))
            self.task["voted"] = True
        if "/keys/" in path:
            self.keys[path.rsplit("/", 1)[1]] = request.content
        return httpx.Response(204)

    def _get(self, path: str) -> httpx.Response:
        last = path.rsplit("/", 1)[1]
        if path.startswith("/models/"):
            return httpx.Response(200, content=self.model)
        if "/keys/" in path:
            return httpx.Response(200, content=self.keys[last])
        if "/key-parts/" in path:
            return httpx.Response(200, content=self.key_parts[UUID(path.split("/")[-2])])
        found: dict[str, Callable[[], Any]] = {
            "status": self.status,
            "studies": lambda: [self.study()],
            "roster": self.roster.to_json,
            "task": self.full_task,
            "parts": lambda: {"parts": {}, "key_parts": {}, "manifest": False},
            "ballot": lambda: self.ballot and self.ballot.to_json(),
            "votes": lambda: [vote.to_json() for vote in self.votes],
            "rounds": lambda: self.rounds,
        }
        return httpx.Response(200, json=found[last]())

    def status(self) -> dict[str, Any]:
        return {"product": "pleura", "version": "0.1.0", "protocols": [1], "coordinator": str(STUDY), "time": 0.0}

    def study(self) -> dict[str, Any]:
        model = sha256(self.model)
        return {
            "id": str(STUDY), "name": "study", "state": "running", "scheme": "lwe-ckks", "release": "open",
            "weighting": "equal", "minimum_contributors": 3, "rounds": 2, "round": 0, "recipe": RECIPE,
            "recipe_digest": digest(RECIPE), "layout": LAYOUT.to_json(), "layout_digest": LAYOUT.digest,
            "model": model, "first_model": model, "member": True,
        }  # fmt: skip

    def full_task(self) -> dict[str, Any]:
        epoch = {**self.epoch, "additions": self.additions, "missing": [str(site) for site in self.missing]}
        nothing = {
            "cursor": "c", "study_state": "running", "phase": "waiting", "epoch": epoch, "plan": None, "roster": None,
            "contributed": False, "ballot": None, "voted": False, "votes": 0, "openers": [], "opened": False,
            "last": None,
        }  # fmt: skip
        return {**nothing, **self.task}


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    IDENTITIES[ME].save(home.identity)
    write_whole(home.config, dump(Config(name="me", coordinator="http://127.0.0.1:1", data="data")).encode())
    write_whole(home.policy, dump(Policy(peers="auto")).encode())
    write_whole(home.enrolment, canonical({"site": str(ME), "coordinator": str(COORDINATOR)}))
    Record(home.record, fresh=True).close()
    return home


Opened = Callable[[], StudyLoop]


@pytest.fixture
def start(home: Home, coordinator: Coordinator) -> Iterator[Opened]:
    """Makes a loop on the home folder, as after a start of the agent; again, as after a restart."""
    open_sites = []

    def make() -> StudyLoop:
        http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(coordinator))
        context = setup.open_site(home, Lines(), make_trainer=lambda study: Trainer(), http=http)
        open_sites.append(context)
        site = context.__enter__()
        return StudyLoop(Desk(site, site.client.studies()[0]), inline=True)

    yield make
    for context in open_sites:
        context.__exit__(None, None, None)


Contributed = tuple[StudyLoop, epochs.Dealt]


@pytest.fixture
def contributed(coordinator: Coordinator, start: Opened) -> tuple[StudyLoop, epochs.Dealt]:
    dealt = coordinator.deal()
    coordinator.make_plan()
    loop = start()
    loop.look()
    return loop, dealt


def refusals(coordinator: Coordinator) -> list[tuple[str, str]]:
    return [(each.step, each.code) for each in coordinator.messages("POST .*/refusal", Refusal)]


def ledgered(home: Home, event: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, home.ledger.read_text().splitlines()) if line["event"] == event]
