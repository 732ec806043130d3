"""A real conductor on a real database, and three sites that write there what the API would write for them.

A module that uses its fixtures names them: other modules of this folder have fixtures of the same names.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from fuses import Fuse, FusedBlobs, FusedStore
from safetensors.numpy import load, save
from sqlalchemy import select

from coordinator.clock import FakeClock
from coordinator.conductor import Conductor
from coordinator.store import models
from coordinator.store.blobs import model_key, part_key
from coordinator.store.tables import (
    Approval,
    Audit,
    Contribution,
    Epoch,
    Membership,
    Metrics,
    Opening,
    Part,
    Refusal,
    Round,
    Site,
    Study,
    Vote,
)
from crypto import manifest as messages
from crypto.canonical import canonical, sha256
from crypto.checks import check_ballot, check_roster
from crypto.ckks_public import PublicContext
from crypto.epoch import Approval as Approved
from crypto.epochs import deal
from crypto.identity import Identity
from crypto.layout import CountField, Layout, Tensor
from crypto.manifest import Ballot, Manifest
from crypto.plan import Member, Plan, Roster
from crypto.schemes import scheme
from crypto.schemes.opening import open_ballot
from migrations import upgrade

LAYOUT = Layout(
    (Tensor("weight", (20, 30), "parameter"), Tensor("mean", (5,), "buffer")),
    (CountField("cases", ()), CountField("loss", ()), CountField("confusion", (2, 2)), CountField("scores", (2, 2, 4))),
)
RECIPE = {"name": "small", "network": {"classes": ["no", "yes"]}}
STUDY = UUID(int=50)
COLLECT, VOTE, OPEN = 600, 60, 90
RECENT = 1e6

IDENTITIES = {UUID(int=number): Identity.generate() for number in (3, 4, 5)}
SITES = sorted(IDENTITIES, key=lambda site: site.bytes)
MEMBERS = tuple(
    Member(
        site=site,
        name=f"hospital-{number}",
        index=number,
        signing_key=IDENTITIES[site].public.signing_key.hex(),
        hpke_key=IDENTITIES[site].public.hpke_key.hex(),
    )
    for number, site in enumerate(SITES, 1)
)
DEALT = deal(IDENTITIES[SITES[0]], SITES[0], STUDY, 1, Roster(study=STUDY, members=MEMBERS))
PUBLIC = PublicContext.load(DEALT.public_context)
SIGNED: dict[tuple[str, UUID], Manifest] = {}  # what each site remembers of itself


def with_server(optimizer: str, **rule) -> dict:
    return RECIPE | {"federation": {"server": {"optimizer": optimizer, **rule}}}


class Federation:
    """A database, a blob store, a clock, a conductor, and sites that write what the API would write for them."""

    def __init__(self, root: Path, clock: FakeClock, fuse: Fuse | None = None) -> None:
        self.root, self.clock = root, clock
        self.store, self.blobs = FusedStore(f"sqlite:///{root}/c.db"), FusedBlobs(root / "blobs")
        self.store.fuse = self.blobs.fuse = fuse or Fuse()
        self.conductor = self.another_conductor()
        self.updates: dict[tuple[int, int], dict[UUID, np.ndarray]] = {}

    @classmethod
    def fresh(cls, root: Path, **changes) -> Federation:
        root.mkdir(exist_ok=True)
        upgrade(f"sqlite:///{root}/c.db")
        made = cls(root, FakeClock())
        weights = {t.name: np.full(t.shape, 0.5, np.float32) for t in LAYOUT.tensors}
        data = save(weights, {"format": "pleura/model/v1"})
        made.blobs.put_bytes(model_key(sha256(data)), data)
        made.store.run("make", lambda s: made._insert(s, sha256(data), len(data), changes))
        return made

    def _insert(self, session, model: str, size: int, changes) -> None:
        now = self.clock.now()
        models.register(session, model, size, LAYOUT.digest, sha256(canonical(RECIPE)), now, None)
        values = {
            "id": STUDY,
            "name": "lungs",
            "state": "running",
            "scheme": "lwe-ckks",
            "release": "open",
            "weighting": "samples",
            "minimum_contributors": 2,
            "rounds": 1,
            "collect_seconds": COLLECT,
            "vote_seconds": VOTE,
            "open_seconds": OPEN,
            "k_max": 16,
            "n_max": 100,
            "recipe": RECIPE,
            "recipe_digest": sha256(canonical(RECIPE)),
            "layout": LAYOUT.to_json(),
            "layout_digest": LAYOUT.digest,
            "bounds": [1.0, 64.0],
            "first_model": model,
            "current_model": model,
            "created": now,
        }
        session.add(Study(**values | changes))
        fingerprints = {str(site): identity.public.fingerprint for site, identity in IDENTITIES.items()}
        for member in MEMBERS:
            public = IDENTITIES[member.site].public
            session.add(
                Site(
                    id=member.site,
                    name=member.name,
                    signing_key=member.signing_key,
                    hpke_key=member.hpke_key,
                    fingerprint=public.fingerprint,
                    enrolled=now,
                    last_seen=now,
                )
            )
            session.flush()
            session.add(Membership(study_id=STUDY, site_id=member.site, index=member.index, joined=now))
            statement = IDENTITIES[member.site].sign(Approved(study=STUDY, site=member.site, peers=fingerprints))
            session.add(Approval(study_id=STUDY, site_id=member.site, signed=statement.to_json(), received=now))
        record = DEALT.record
        session.add(
            Epoch(
                study_id=STUDY,
                number=1,
                record=record.to_json(),
                record_digest=record.message.digest,
                context_digest=record.message.context,
                dealer=SITES[0],
                created=now,
            )
        )

    def another_conductor(self) -> Conductor:
        return Conductor(self.store, self.blobs, self.clock, RECENT)

    # --- what the tests look at

    def study(self) -> Study:
        return self.store.read("study", lambda s: s.get_one(Study, STUDY))

    def rounds(self) -> list[Round]:
        query = select(Round).order_by(Round.number, Round.attempt)
        return self.store.read("rounds", lambda s: list(s.scalars(query)))

    def newest(self) -> Round:
        return self.rounds()[-1]

    def model(self, digest: str) -> np.ndarray:
        tensors = load(self.blobs.read(model_key(digest)))
        return np.concatenate([tensors[tensor.name].reshape(-1) for tensor in LAYOUT.tensors])

    def metrics(self, row: Round) -> Metrics:
        return self.store.read("metrics", lambda s: s.get_one(Metrics, row.id))

    def left_over(self) -> list[str]:
        kept = (path.relative_to(self.root / "blobs") for path in (self.root / "blobs").rglob("*") if path.is_file())
        return [str(path) for path in kept if path.parts[0] in ("parts", "sums")]

    def server_states(self) -> list[str]:
        return sorted(path.name for path in (self.root / "blobs" / "server").rglob("*") if path.is_file())

    def advance(self) -> None:
        while self.conductor.advance_once():
            pass

    # --- what sites do

    def contribute(self, *sites: UUID, spoil=None) -> None:
        """Seal and deliver; `spoil` changes a body part's bytes before they are signed."""
        row = self.newest()
        plan = Plan.from_json(row.plan)
        assert plan.epoch == DEALT.record.message.digest
        for site in sites or SITES:
            self._deliver(row, plan, site, spoil)

    def _deliver(self, row: Round, plan: Plan, site: UUID, spoil) -> None:
        number = SITES.index(site) + 1
        random = np.random.default_rng([row.number, row.attempt, number])
        update = random.normal(0, 0.05, LAYOUT.size).astype(np.float32) if plan.kind == "training" else None
        counts = [10, 5000 * number, 4, 1, 2, 3, *([number] * 16)]
        sealed = scheme(plan.scheme).seal(plan, LAYOUT, update, 10 * number, counts, PUBLIC)
        body = [bytes(part) if spoil is None else spoil(bytes(part)) for part in sealed]
        kept = {("body", 0): body[0], ("key", 0): sealed.key_parts[0]}
        for (kind, index), data in kept.items():
            self.blobs.put_bytes(part_key(row.id, site, kind, index), data)
        message = Manifest(
            plan=plan.digest, site=site, parts=(sha256(body[0]),), key_parts=(sha256(sealed.key_parts[0]),)
        )
        SIGNED[plan.digest, site] = message
        self.updates.setdefault((row.number, row.attempt), {})[site] = update
        self.store.run("deliver", lambda s: self._note(s, row.id, IDENTITIES[site].sign(message), kept))

    def _note(self, session, round_id: UUID, signed, kept) -> None:
        site = signed.message.site
        size = sum(map(len, kept.values()))
        session.add(
            Contribution(
                round_id=round_id, site_id=site, manifest=signed.to_json(), completed=self.clock.now(), received=size
            )
        )
        for (kind, number), data in kept.items():
            session.add(
                Part(round_id=round_id, site_id=site, kind=kind, number=number, digest=sha256(data), size=len(data))
            )

    def vote(self, *sites: UUID) -> None:
        row = self.newest()
        plan, roster, ballot = Plan.from_json(row.plan), Roster.from_json(row.roster), Ballot.from_json(row.ballot)
        check_roster(plan, roster)
        for site in sites or SITES:
            check_ballot(ballot, plan, roster, site, SIGNED.get((plan.digest, site)), 2)
            signed = IDENTITIES[site].sign(messages.Vote(ballot=ballot.digest, site=site))
            self._add(Vote(round_id=row.id, site_id=site, signed=signed.to_json(), received=self.clock.now()))

    def open(self, site: UUID | None = None, change: int = 0) -> None:
        """The asked site opens the ballot; `change` is added to one coefficient of its answer."""
        row = self.newest()
        site = site or UUID(row.openers[-1]["site"])
        plan, ballot = Plan.from_json(row.plan), Ballot.from_json(row.ballot)
        parts = {
            entry.message.site: [self.blobs.read(part_key(row.id, entry.message.site, "key", 0))]
            for entry in ballot.manifests
        }
        answer = open_ballot(plan, ballot, parts, DEALT.secret, site)
        secrets = (answer.secret_sum[0] + change, *answer.secret_sum[1:])
        signed = IDENTITIES[site].sign(answer.model_copy(update={"secret_sum": secrets}))
        self._add(Opening(round_id=row.id, site_id=site, signed=signed.to_json(), received=self.clock.now()))

    def refuse(self, site: UUID, step: str, words: str) -> None:
        row = self.newest()
        about = row.plan_digest if step == "plan" else row.ballot_digest
        message = messages.Refusal(site=site, step=step, about=about, code="policy", words=words)
        signed = IDENTITIES[site].sign(message)
        self._add(Refusal(round_id=row.id, site_id=site, step=step, signed=signed.to_json(), received=self.clock.now()))

    def _add(self, row) -> None:
        self.store.run("add", lambda s: s.add(row))

    def one_round(self) -> None:
        """From planning to the end of the attempt."""
        self.advance()
        self.contribute()
        self.advance()
        self.vote()
        self.advance()
        self.open()
        self.advance()


@pytest.fixture
def federation(tmp_path):
    made = Federation.fresh(tmp_path)
    yield made
    made.store.close()


def actions(federation: Federation) -> list[str]:
    return federation.store.read("audit", lambda s: list(s.scalars(select(Audit.action).order_by(Audit.seq))))


def to_opening(federation: Federation, spoil=None) -> None:
    federation.advance()
    federation.contribute(spoil=spoil)
    federation.advance()
    federation.vote()
    federation.advance()
