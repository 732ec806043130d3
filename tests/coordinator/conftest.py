"""A federation in one process: the real app on a real database, sites with real keys, a clock that stands still.

What takes `new_database`, `store` or a `world` runs on SQLite and on PostgreSQL. Makes the modules beside it
importable, too.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from safetensors.numpy import save

from coordinator.app import create_app, open_services
from coordinator.clock import FakeClock
from coordinator.conductor import Conductor
from coordinator.settings import Settings
from coordinator.store import operators
from coordinator.store.database import Store
from crypto import epochs
from crypto.canonical import canonical, sha256
from crypto.ckks_public import PublicContext
from crypto.epoch import Approval
from crypto.identity import Identity, enrolment_bytes
from crypto.layout import CountField, Layout, Tensor
from crypto.manifest import Ballot, Manifest, ShareOpening, Vote
from crypto.plan import Plan, Roster
from crypto.schemes import Recipients, scheme
from crypto.schemes.opening import open_ballot
from crypto.schemes.shares import open_shares
from migrations import upgrade

sys.path.insert(0, str(Path(__file__).parent))

LAYOUT = Layout(
    (Tensor("weight", (3, 5), "parameter"), Tensor("mean", (3,), "buffer")),
    (CountField("cases", ()), CountField("loss", ()), CountField("scores", (2, 2, 4))),
)
RECIPE = {
    "name": "tiny",
    "network": {"classes": 2},
    "federation": {"rounds": 2, "weighting": "samples", "minimum_contributors": 3, "n_max": 1000, "fraction": 1.0},
}


def model_file(layout: Layout = LAYOUT, metadata: dict[str, str] | None = None, **tensors: Any) -> bytes:
    values = {t.name: np.full(t.shape, 0.5, np.float32) for t in layout.tensors} | tensors
    described = {
        "format": "pleura/model/v1",
        "layout": canonical(layout.to_json()).decode(),
        "recipe": canonical(RECIPE).decode(),
    }
    return save(values, described | (metadata or {}))


def digest_header(data: bytes) -> dict[str, str]:
    encoded = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return {"Content-Digest": f"sha-256=:{encoded}:"}


class Site:
    """A hospital's side of the conversation, reduced to what the coordinator sees of it."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.identity = world, name, Identity.generate()
        self.id = UUID(int=0)
        self.secret: Any = None
        self.contribution: tuple[list[bytes], list[bytes], Any] | None = None

    def enrolment(self, invitation: str, name: str | None = None) -> dict[str, str]:
        public, name = self.identity.public, name or self.name
        return {
            "invitation": invitation,
            "name": name,
            "signing_key": public.signing_key.hex(),
            "hpke_key": public.hpke_key.hex(),
            "proof": self.identity.sign_bytes(enrolment_bytes(invitation, name, public)).hex(),
        }

    def enrol(self) -> Site:
        answer = self.world.call("POST", "/v1/enrolments", json=self.enrolment(self.world.invitation()))
        assert answer.status_code == 201, answer.text
        self.id = UUID(answer.json()["site"])
        return self

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = self.world.clock.now()
        claims = {"iss": str(self.id), "sub": str(self.id), "aud": str(self.world.services.coordinator)}
        return {**claims, "iat": now, "exp": now + 60, "jti": uuid4().hex, **changes}

    def token(self, identity: Identity | None = None, **changes: Any) -> str:
        key = (identity or self.identity).private_key
        return jwt.encode(self.claims(**changes), key, "EdDSA", headers={"kid": str(self.id)})

    def call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token()}"} | arguments.pop("headers", {})
        return self.world.call(method, path, headers=headers, **arguments)

    def ok(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        answer = self.call(method, path, **arguments)
        assert answer.is_success, answer.text
        return answer

    def put(self, path: str, data: bytes) -> httpx.Response:
        return self.call("PUT", path, content=data, headers=digest_header(data))

    def send(self, path: str, message: Any, method: str = "PUT") -> httpx.Response:
        return self.call(method, path, json=self.identity.sign(message).to_json())

    def task(self) -> dict[str, Any]:
        return self.ok("GET", f"{self.world.study}/task").json()

    def seal(self) -> tuple[list[bytes], list[bytes], Any]:
        """Parts, key parts and the signed manifest of a contribution to the present plan; the same when asked again."""
        if self.contribution is None:
            task = self.task()
            plan = Plan.from_json(task["plan"])
            to = self._epoch_context() if plan.epoch else Recipients(Roster.from_json(task["roster"]), self.id)
            update = np.full(LAYOUT.size, 0.25, np.float32) if plan.kind == "training" else None
            counts = [10, 5000, 0, 0, 2, 3, 4, 1, 0, 0, 0, 0, 5, 5, 0, 0, 0, 0]
            sealed = scheme(plan.scheme).seal(plan, LAYOUT, update, 10, counts, to)
            parts = [bytes(part) for part in sealed]
            keys = list(sealed.key_parts)
            manifest = Manifest(
                plan=plan.digest,
                site=self.id,
                parts=tuple(map(sha256, parts)),
                key_parts=tuple(map(sha256, keys)),
            )
            self.contribution = parts, keys, self.identity.sign(manifest)
        return self.contribution

    def _epoch_context(self) -> PublicContext:
        record = self.ok("GET", f"{self.world.study}/epoch").json()["record"]["message"]
        return PublicContext.load(self.ok("GET", f"{self.world.study}/keys/{record['context']}").content)

    def contribute(self) -> None:
        parts, keys, manifest = self.seal()
        here = self.world.attempt
        for number, part in enumerate(parts):
            assert self.put(f"{here}/parts/{number}", part).status_code == 204
        for number, key in enumerate(keys):
            assert self.put(f"{here}/key-parts/{number}", key).status_code == 204
        assert self.call("PUT", f"{here}/manifest", json=manifest.to_json()).status_code == 204

    def vote(self) -> httpx.Response:
        ballot = Ballot.from_json(self.ok("GET", f"{self.world.attempt}/ballot").json())
        return self.send(f"{self.world.attempt}/vote", Vote(ballot=ballot.digest, site=self.id))

    def opening(self) -> Any:
        here = self.world.attempt
        plan = Plan.from_json(self.ok("GET", f"{here}/plan").json())
        ballot = Ballot.from_json(self.ok("GET", f"{here}/ballot").json())
        keys = {
            entry.message.site: [self.ok("GET", f"{here}/key-parts/{entry.message.site}/0").content]
            for entry in ballot.manifests
        }
        return open_ballot(plan, ballot, keys, self.secret, self.id)

    def share_sum(self) -> ShareOpening:
        """The answer under lwe-shamir."""
        here = self.world.attempt
        plan = Plan.from_json(self.ok("GET", f"{here}/plan").json())
        roster = Roster.from_json(self.ok("GET", f"{here}/roster").json())
        ballot = Ballot.from_json(self.ok("GET", f"{here}/ballot").json())
        place = [member.site for member in roster.members].index(self.id)
        shares = {
            entry.message.site: self.ok("GET", f"{here}/key-parts/{entry.message.site}/{place}").content
            for entry in ballot.manifests
        }
        return open_shares(plan, roster, ballot, shares, self.identity, self.id)


class World:
    """The coordinator, seen over HTTP, and a clock to move."""

    digest_header = staticmethod(digest_header)

    def __init__(self, folder: Path, portal: Any, database: str, **settings: Any) -> None:
        self.clock = FakeClock()
        chosen = {"poll_seconds": 0.01, "enrolments_per_minute": 1000, "database_url": database} | settings
        self.services = open_services(Settings(data_dir=folder, **chosen), self.clock)
        self.app = create_app(self.services)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://coordinator")
        self._portal = portal
        monitor = self.app.state.monitor
        self.conductor = Conductor(self.services.store, self.services.blobs, self.clock, monitor=monitor)
        self.operator = self.operator_token("anna", "operator")
        self.auditor = self.operator_token("zoe", "auditor")
        self.study = ""
        self.model = b""
        self.study_id = UUID(int=0)
        self.sites: list[Site] = []

    def operator_token(self, name: str, role: Any) -> str:
        now = self.clock.now()
        return self.services.store.run("add", lambda session: operators.add(session, name, role, "operator:test", now))

    def call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            return await self._client.request(method, path, **arguments)

        return self._portal.call(call)

    def operate(self, method: str, path: str, token: str | None = None, **arguments: Any) -> httpx.Response:
        return self.call(method, path, headers={"Authorization": f"Bearer {token or self.operator}"}, **arguments)

    def stranger(self, name: str) -> Site:
        """Somebody with keys who is not enrolled."""
        return Site(self, name)

    def new_site(self, name: str) -> Site:
        return Site(self, name).enrol()

    def invitation(self, **wish: Any) -> str:
        answer = self.operate("POST", "/v1/invitations", json=wish)
        assert answer.status_code == 201, answer.text
        return answer.json()["invitation"]

    def create_study(self, **wish: Any) -> dict[str, Any]:
        self.model = model_file()
        model = self.operate("POST", "/v1/models", content=self.model)
        assert model.status_code == 201, model.text
        asked = {"name": "study", "model": model.json()["model"], **wish}
        answer = self.operate("POST", "/v1/studies", json=asked)
        assert answer.status_code == 201, answer.text
        self.study_id = UUID(answer.json()["id"])
        self.study = f"/v1/studies/{self.study_id}"
        return answer.json()

    def join(self, number: int = 3) -> None:
        """Sites that are members and have approved each other."""
        self.sites = [Site(self, f"hospital-{letter}").enrol() for letter in "abcdefgh"[:number]]
        for site in self.sites:
            site.ok("PUT", f"{self.study}/membership")
        peers = {str(site.id): site.identity.public.fingerprint for site in self.sites}
        for site in self.sites:
            others = {peer: fingerprint for peer, fingerprint in peers.items() if peer != str(site.id)}
            approval = Approval(study=self.study_id, site=site.id, peers=others)
            assert site.send(f"{self.study}/approval", approval).status_code == 204

    def site(self, identifier: str) -> Site:
        return next(site for site in self.sites if str(site.id) == identifier)

    def deal(self) -> epochs.Dealt:
        """The asked dealer makes a key and everybody unwraps it."""
        epoch = self.sites[0].ok("GET", f"{self.study}/epoch").json()
        dealer = self.site(epoch["dealer"])
        roster = Roster.from_json(dealer.ok("GET", f"{self.study}/roster").json())
        dealt = epochs.deal(dealer.identity, dealer.id, self.study_id, epoch["number"], roster)
        for blob in (dealt.public_context, *dealt.wraps.values()):
            dealer.ok("PUT", f"{self.study}/keys/{sha256(blob)}", content=blob)
        dealer.ok("PUT", f"{self.study}/epoch", json=dealt.record.to_json())
        for site in self.sites:
            site.secret = epochs.unwrap(site.identity, site.id, dealt.record.message, dealt.wraps[site.id])
        return dealt

    def conduct(self) -> None:
        """Everything that can be done now."""
        while self.conductor.advance_once():
            pass

    @property
    def attempt(self) -> str:
        newest = self.sites[0].ok("GET", f"{self.study}/rounds").json()[-1]
        return f"{self.study}/rounds/{newest['round']}/{newest['attempt']}"

    def begin(self, sites: int = 3, **wish: Any) -> str:
        """A study whose first round is collecting; its address."""
        self.create_study(**wish)
        self.join(sites)
        if wish.get("scheme") != "lwe-shamir":
            self.deal()
        assert self.operate("POST", f"{self.study}/start").status_code == 200
        self.conduct()
        return self.attempt


@pytest.fixture(scope="session")
def portal() -> Iterator[Any]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """`new_database()` gives the URL of another database with all tables, and nothing in them."""
    if request.param == "sqlite":
        template, numbers = request.getfixturevalue("sqlite_template"), count(1)
        yield lambda: f"sqlite:///{shutil.copyfile(template, tmp_path / f'coordinator-{next(numbers)}.db')}"
        return
    postgres, made = request.getfixturevalue("postgres"), []

    def new() -> str:
        made.append(postgres.new_database())
        return made[-1]

    yield new
    for url in made:
        postgres.drop(url)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file to copy."""
    file = tmp_path_factory.mktemp("template") / "coordinator.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def store(new_database: Callable[[], str]) -> Iterator[Store]:
    """An empty database that does not wait between tries."""
    store = Store(new_database(), sleep=lambda _: None)
    yield store
    store.close()


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    return new_world()


@pytest.fixture
def new_world(
    tmp_path: Path, portal: Any, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., World]]:
    """Worlds with settings of their own. Commands that are run on a world's folder find its database."""
    made: list[World] = []

    def make(**settings: Any) -> World:
        database = new_database()
        monkeypatch.setenv("PLEURA_DATABASE_URL", database)
        made.append(World(tmp_path / f"data{len(made) or ''}", portal, database, **settings))
        return made[-1]

    yield make
    for world in made:
        world.services.store.close()


@pytest.fixture
def refused() -> Any:
    """`refused(answer, status, code)` checks a problem document and gives it back."""

    def check(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = answer.json()
        assert (document["status"], document["code"]) == (status, code), document
        assert document["type"] == f"urn:pleura:problem:{code}"
        assert len(document["detail"]) > 10
        return document

    return check


@pytest.fixture
def make_model() -> Any:
    """`make_model(**tensors)` gives a model file's bytes, for tests that spoil one."""
    return model_file
