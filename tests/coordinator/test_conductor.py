"""Whole studies through the conductor, with real contributions of three sites; killed at every step of the way."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest
from safetensors.numpy import load, save
from sqlalchemy import select

from coordinator.clock import FakeClock
from coordinator.conductor import LEASE_SECONDS, Conductor
from coordinator.errors import DiskFull
from coordinator.rounds.planning import mutually_approved
from coordinator.store import audit, memberships, models
from coordinator.store.blobs import Blobs, model_key, part_key, server_state_key
from coordinator.store.database import Store
from coordinator.store.rounds import LOSSES
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
STATES = ("collecting", "aggregating", "opening", "complete", "failed")

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


class Killed(BaseException):
    """The process ends here: nothing after it runs, no lease is given back."""


class Fuse:
    """Kills at the n-th time it is passed."""

    def __init__(self, at: int | None = None) -> None:
        self.passed, self._at = 0, at

    def __call__(self) -> None:
        self.passed += 1
        if self.passed == self._at:
            raise Killed


class FusedStore(Store):
    """May be killed before and after each transaction that writes."""

    fuse = Fuse()

    def run(self, name, fn):
        self.fuse()
        value = super().run(name, fn)
        self.fuse()
        return value


class FusedBlobs(Blobs):
    """May be killed before and after each blob is written or a folder is deleted."""

    fuse = Fuse()

    def put_bytes(self, key, data):
        self.fuse()
        stored = super().put_bytes(key, data)
        self.fuse()
        return stored

    def delete_prefix(self, prefix):
        self.fuse()
        super().delete_prefix(prefix)
        self.fuse()


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


def test_a_study_runs_to_its_end(tmp_path) -> None:
    federation = Federation.fresh(tmp_path, rounds=2)
    for _ in range(3):
        federation.one_round()
    rows, study = federation.rounds(), federation.study()
    assert [(row.number, row.kind, row.state) for row in rows] == [
        (1, "training", "complete"),
        (2, "training", "complete"),
        (3, "evaluation", "complete"),
    ]
    assert (study.state, study.completed, study.current_model) == ("finished", 2, rows[1].model)
    assert rows[2].model == rows[2].base_model == rows[1].model
    assert rows[1].base_model == rows[0].model != study.first_model
    assert federation.left_over() == []
    assert not federation.conductor.advance_once()
    assert federation.store.read("verify", audit.verify) > 10
    made = federation.store.read("model", lambda s: models.find(s, rows[1].model))
    assert (made.study_id, made.round, made.parent) == (STUDY, 2, rows[0].model)


def test_each_model_is_its_base_plus_the_weighted_mean(tmp_path) -> None:
    federation = Federation.fresh(tmp_path, rounds=2)
    federation.one_round()
    federation.one_round()
    expected = np.full(LAYOUT.size, 0.5)
    for row in federation.rounds()[:2]:
        updates = [federation.updates[row.number, 1][site].astype(np.float64) for site in SITES]
        expected += np.average(updates, axis=0, weights=[10, 20, 30])
        error = np.abs(federation.model(row.model) - expected)
        assert error[:600].max() < 2e-6
        assert error[600:].max() < 64e-6 + 1e-6


def test_bounds_move_from_plan_to_plan(tmp_path) -> None:
    federation = Federation.fresh(tmp_path, rounds=2)
    federation.one_round()
    federation.advance()
    assert federation.newest().plan["bounds"] == [0.5, 32.0] == federation.study().bounds


def test_counts_become_measures_of_the_base_model(federation) -> None:
    federation.one_round()
    stored = federation.metrics(federation.rounds()[0])
    assert stored.counts["samples"] == 60
    assert stored.counts["recipe"]["confusion"] == [[12, 3], [6, 9]]
    assert stored.derived["cases"] == 30
    assert stored.derived["loss"] == pytest.approx(1.0)
    assert stored.derived["macro_auc"] == pytest.approx(0.5)


# --- server optimisers, and what losses decide


def mean_update(federation: Federation, row: Round) -> np.ndarray:
    updates = [federation.updates[row.number, row.attempt][site].astype(np.float64) for site in SITES]
    return np.average(updates, axis=0, weights=[10, 20, 30])


def test_a_server_optimiser_steps_on_through_a_lost_round(tmp_path) -> None:
    """FedAdam by its formulas. The round that fails after its ballot moves nothing, and nothing is left of it."""
    recipe = with_server("fedadam", lr=0.1, momentum=0.6, beta2=0.9, tau=0.01)
    federation = Federation.fresh(tmp_path, rounds=3, recipe=recipe)
    federation.one_round()
    lose_a_round(federation)
    federation.one_round()
    federation.one_round()
    rows = [row for row in federation.rounds() if row.kind == "training"]
    assert [row.state for row in rows] == ["complete", "failed", "complete", "complete"]
    momentum, second, expected = np.zeros(600), np.full(600, 0.01**2), np.full(LAYOUT.size, 0.5)
    for row in (rows[0], *rows[2:]):
        mean = mean_update(federation, row)
        expected[600:] += mean[600:]
        momentum = 0.6 * momentum + 0.4 * mean[:600]
        second = 0.9 * second + 0.1 * mean[:600] ** 2
        expected[:600] += 0.1 * momentum / (np.sqrt(second) + 0.01)
        np.testing.assert_allclose(federation.model(row.model)[:600], expected[:600], atol=2e-5)
        np.testing.assert_allclose(federation.model(row.model)[600:], expected[600:], atol=2e-4)
    assert rows[1].server_state is None
    assert len({row.server_state for row in rows}) == 4
    assert federation.server_states() == [rows[3].server_state], "the former ones were superseded"
    state = load(federation.blobs.read(server_state_key(STUDY, rows[3].server_state)))
    np.testing.assert_allclose(state["momentum/weight"].reshape(-1), momentum, atol=1e-6)


def lose_a_round(federation: Federation) -> None:
    federation.advance()
    federation.contribute()
    federation.advance()
    federation.clock.advance(VOTE + 1)
    federation.advance()


@pytest.mark.parametrize("damage", ["is not in the blob store any more", "was damaged"])
def test_without_its_state_a_server_optimiser_does_not_begin_anew(tmp_path, damage) -> None:
    federation = Federation.fresh(tmp_path, rounds=2, recipe=with_server("fedavgm"))
    federation.one_round()
    key = server_state_key(STUDY, federation.rounds()[0].server_state)
    if "damaged" in damage:
        federation.blobs.put_bytes(key, bytes(federation.blobs.size(key)))
    else:
        federation.blobs.delete(key)
    federation.one_round()
    failed = federation.rounds()[1]
    assert failed.state == "failed"
    assert "the server optimiser's state" in failed.reason
    assert damage in failed.reason
    assert federation.study().current_model == federation.rounds()[0].model


def test_plain_averaging_keeps_no_state(federation) -> None:
    federation.one_round()
    assert federation.rounds()[0].server_state is None
    assert not (federation.root / "blobs" / "server").exists()


def test_losses_that_stall_lower_the_rate_and_end_the_study_early(tmp_path) -> None:
    """Each round's pooled loss is 1: after the third one, two in a row brought nothing better."""
    paced = {"schedule": "plateau", "plateau": {"factor": 0.1, "patience": 1}, "early_stopping": {"patience": 2}}
    federation = Federation.fresh(tmp_path, rounds=9, weighting="dynamic", recipe=RECIPE | {"training": paced})
    for _ in range(4):
        federation.one_round()
    rows, study = federation.rounds(), federation.study()
    assert [(row.kind, row.state) for row in rows] == [("training", "complete")] * 3 + [("evaluation", "complete")]
    assert [row.plan.get("rate", 1) for row in rows] == pytest.approx([1, 1, 1, 0.1])
    assert [row.plan.get("reference_loss") for row in rows] == [None, 1, 1, 1]
    assert (study.state, study.completed, study.rounds) == ("finished", 3, 9)
    assert study.reason == (
        "ended early, after 3 of 9 rounds: for 2 rounds the validation loss over all sites did not get better"
    )
    assert study.current_model == rows[2].model == rows[3].model
    assert actions(federation)[-2:] == ["study.ended-early", "round.complete"]
    assert not federation.conductor.advance_once()


def test_a_study_that_ends_in_time_gives_no_reason(federation) -> None:
    federation.one_round()
    federation.one_round()
    assert (federation.study().state, federation.study().reason) == ("finished", None)


# --- killed anywhere


def ended(federation: Federation) -> bool:
    return federation.rounds()[0].swept is not None


def go_through(federation: Federation) -> None:
    """Sites answer whatever the newest attempt asks of them, until the first one has ended and is swept."""
    for _ in range(12):
        federation.conductor.advance_once()
        if ended(federation):
            return
        row = federation.rounds()[0]
        if row.state == "opening":
            federation.store.run("sites", lambda s: answer(federation, s))
    raise AssertionError(f"round is still {federation.rounds()[0].state}")


def answer(federation: Federation, session) -> None:
    """Votes and openings that are not in yet. They were signed before, so each copy of the federation has the same."""
    row = session.scalars(select(Round)).first()
    for vote in SAVED["votes"]:
        if session.get(Vote, (row.id, UUID(vote["message"]["site"]))) is None:
            site = UUID(vote["message"]["site"])
            session.add(Vote(round_id=row.id, site_id=site, signed=vote, received=federation.clock.now()))
    if row.openers and session.get(Opening, (row.id, UUID(row.openers[0]["site"]))) is None:
        site = UUID(row.openers[0]["site"])
        session.add(Opening(round_id=row.id, site_id=site, signed=SAVED["opening"], received=federation.clock.now()))


SAVED: dict = {}


@pytest.fixture(scope="module")
def contributed(tmp_path_factory) -> Path:
    """A federation whose first attempt has all contributions, and answers of its sites as they will give them."""
    root = tmp_path_factory.mktemp("contributed")
    federation = Federation.fresh(root, recipe=with_server("fedyogi"))  # so that its state is killed in between too
    federation.advance()
    federation.contribute()
    federation.store.close()
    copy = copied(root, tmp_path_factory.mktemp("rehearsal") / "copy", Fuse())
    copy.advance()
    copy.vote()
    copy.advance()
    copy.open()
    SAVED["votes"] = copy.store.read("votes", lambda s: [vote.signed for vote in s.scalars(select(Vote))])
    SAVED["opening"] = copy.store.read("opening", lambda s: s.scalars(select(Opening)).one().signed)
    copy.store.close()
    return root


def copied(source: Path, target: Path, fuse: Fuse) -> Federation:
    shutil.copytree(source, target)
    return Federation(target, FakeClock(), fuse)


def outcome(federation: Federation) -> tuple:
    row, study = federation.rounds()[0], federation.study()
    stored = federation.metrics(row)
    figures = (study.bounds, stored.counts, stored.derived)
    return row.state, row.model, row.server_state, study.current_model, study.completed, *figures


def actions(federation: Federation) -> list[str]:
    return federation.store.read("audit", lambda s: list(s.scalars(select(Audit.action).order_by(Audit.seq))))


def test_killed_at_every_step_the_next_conductor_ends_the_round_alike(contributed, tmp_path) -> None:
    undisturbed = copied(contributed, tmp_path / "undisturbed", Fuse())
    go_through(undisturbed)
    expected, told = outcome(undisturbed), actions(undisturbed)
    boundaries = undisturbed.store.fuse.passed
    undisturbed.store.close()
    assert expected[0] == "complete"
    assert boundaries > 25
    states = set()
    for number in range(1, boundaries + 1):
        federation = copied(contributed, tmp_path / str(number), Fuse(number))
        with pytest.raises(Killed):
            go_through(federation)
        states.add(federation.rounds()[0].state)
        federation.conductor = federation.another_conductor()
        held = federation.rounds()[0]
        if held.lease_token is not None:  # the dead one's lease has to run out first
            federation.conductor.advance_once()
            assert (federation.rounds()[0].state, federation.rounds()[0].lease_token) == (held.state, held.lease_token)
        federation.clock.advance(LEASE_SECONDS)
        go_through(federation)
        assert outcome(federation) == expected, f"killed at {number}"
        assert actions(federation)[: len(told)] == told, f"killed at {number}"
        assert federation.left_over() == []
        assert federation.server_states() == [expected[2]]
        assert federation.store.read("verify", audit.verify) >= len(told)
        federation.store.close()
        shutil.rmtree(tmp_path / str(number))
    assert states == {"collecting", "aggregating", "opening", "complete"}


def test_two_conductors_on_one_database_do_each_step_once(contributed, tmp_path) -> None:
    federation = copied(contributed, tmp_path / "copy", Fuse())
    workers = [federation.another_conductor() for _ in range(3)]
    for _ in range(12):
        threads = [threading.Thread(target=worker.advance_once) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if ended(federation):
            break
        if federation.rounds()[0].state == "opening":
            federation.store.run("sites", lambda s: answer(federation, s))
    told = [action for action in actions(federation) if action.startswith("round.")]
    once = ["round.planned", "round.closed", "round.ballot-shown", "round.opener-asked", "round.complete"]
    assert told[: len(once)] == once
    assert told[len(once) :] in ([], ["round.planned"])
    federation.store.close()


# --- failing before and after the ballot


def test_too_few_at_the_deadline_leave_the_model_and_start_a_new_attempt(federation) -> None:
    federation.advance()
    first = federation.study().current_model
    federation.contribute(SITES[1])
    federation.refuse(SITES[2], "plan", "hospital-1 is not approved here")
    federation.clock.advance(COLLECT - 1)
    federation.advance()
    assert federation.newest().state == "collecting"
    federation.clock.advance(2)
    federation.advance()
    failed, again = federation.rounds()
    assert failed.reason == (
        "1 of at least 2 contributions by the deadline; missing: "
        "hospital-1, hospital-3 (hospital-1 is not approved here)"
    )
    assert (failed.state, failed.after_ballot, failed.model) == ("failed", False, None)
    assert (again.number, again.attempt, again.state) == (1, 2, "collecting")
    assert federation.study().current_model == first == again.base_model
    assert federation.left_over() == []
    federation.contribute(SITES[0], SITES[2])
    federation.clock.advance(COLLECT + 1)
    federation.advance()
    federation.vote(SITES[0], SITES[1])
    federation.advance()
    federation.open()
    federation.advance()
    done = federation.rounds()[1]
    assert done.state == "complete"
    assert [entry["message"]["site"] for entry in done.ballot["manifests"]] == [str(SITES[0]), str(SITES[2])]
    assert federation.study().completed == 1


def to_opening(federation: Federation, spoil=None) -> None:
    federation.advance()
    federation.contribute(spoil=spoil)
    federation.advance()
    federation.vote()
    federation.advance()


def test_a_malformed_contribution_fails_the_round_and_the_next_number_starts_from_the_same_model(federation) -> None:
    to_opening(federation, spoil=lambda body: bytes(len(body)))
    for _ in SITES:
        federation.open()
        federation.advance()
    failed, following = federation.rounds()
    assert failed.after_ballot
    assert failed.reason.startswith("nobody opened the sum; asked: hospital-")
    assert failed.reason.count("canaries did not open to zero") == 3
    assert (following.number, following.attempt) == (2, 1)
    assert following.base_model == failed.base_model == federation.study().current_model
    assert federation.study().losses == 1
    assert federation.left_over() == []


@pytest.mark.parametrize(("change", "said"), [(1, "canaries"), (-1000, "stays within 96 of zero")])
def test_after_a_wrong_opening_another_site_is_asked(federation, change, said) -> None:
    to_opening(federation)
    first = federation.newest().openers[0]["site"]
    federation.open(change=change)
    federation.advance()
    row = federation.newest()
    assert (row.state, len(row.openers)) == ("opening", 2)
    rejected = federation.store.read("opening", lambda s: s.get_one(Opening, (row.id, UUID(first))))
    assert said in rejected.rejection
    assert row.openers[1]["site"] != first
    federation.open()
    federation.advance()
    assert federation.rounds()[0].state == "complete"
    assert federation.study().completed == 1


def test_a_silent_opener_is_passed_over_and_its_late_answer_still_counts(federation) -> None:
    to_opening(federation)
    first = UUID(federation.newest().openers[0]["site"])
    federation.clock.advance(OPEN / 3)
    federation.advance()
    assert len(federation.newest().openers) == 2
    federation.open(first)
    federation.advance()
    assert federation.rounds()[0].state == "complete"


def test_missing_votes_end_the_round_number(federation) -> None:
    federation.advance()
    federation.contribute()
    federation.advance()
    federation.vote(SITES[0])
    federation.advance()
    assert federation.newest().openers == []
    federation.clock.advance(VOTE)
    federation.advance()
    failed, following = federation.rounds()
    assert failed.reason == "1 of at least 2 votes for the ballot; missing: hospital-2, hospital-3"
    assert (following.number, following.attempt) == (2, 1)


def test_a_study_that_loses_round_after_round_is_paused_with_the_reason(federation) -> None:
    for _ in range(LOSSES):
        federation.advance()
        federation.contribute()
        federation.advance()
        for site in SITES:
            federation.refuse(site, "ballot", "I was never asked")
        federation.advance()
    study = federation.study()
    assert (study.state, study.losses) == ("paused", 0)
    assert "3 rounds in a row failed after their ballot was shown" in study.reason
    assert "I was never asked" in study.reason
    assert [row.number for row in federation.rounds()] == [1, 2, 3]
    assert not federation.conductor.advance_once()


def set_state(federation: Federation, state: str) -> None:
    federation.store.run("operator", lambda s: setattr(s.get_one(Study, STUDY), "state", state))


@pytest.mark.parametrize("moment", ["collecting", "opening"])
def test_stopping_fails_what_is_under_way(federation, moment) -> None:
    federation.advance() if moment == "collecting" else to_opening(federation)
    set_state(federation, "stopped")
    federation.advance()
    row = federation.newest()
    assert (row.state, row.reason) == ("failed", "the study was stopped")
    assert federation.left_over() == []
    assert not federation.conductor.advance_once()


def test_a_paused_study_ends_its_round_and_begins_no_other(federation) -> None:
    to_opening(federation)
    set_state(federation, "paused")
    federation.open()
    federation.advance()
    assert [row.state for row in federation.rounds()] == ["complete"]
    set_state(federation, "running")
    federation.advance()
    assert federation.newest().kind == "evaluation"


def test_no_plan_before_everyone_approved_everyone(federation) -> None:
    def forget(session) -> None:
        session.delete(session.get_one(Approval, (STUDY, SITES[0])))
        session.delete(session.get_one(Approval, (STUDY, SITES[1])))

    federation.store.run("forget", forget)
    found = federation.store.read("candidates", lambda s: memberships.candidates(s, STUDY))
    assert len(mutually_approved(found)) == 1
    assert not federation.conductor.advance_once()


def test_a_retired_key_waits_for_a_new_epoch(federation) -> None:
    federation.store.run("retire", lambda s: setattr(s.get_one(Epoch, (STUDY, 1)), "retired", 1.0))
    assert not federation.conductor.advance_once()
    assert federation.rounds() == []


# --- trouble of our own


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_part_lost_on_our_disk_fails_the_attempt_before_any_ballot(federation, damage) -> None:
    federation.advance()
    federation.contribute()
    key = part_key(federation.newest().id, SITES[1], "body", 0)
    if damage == "gone":
        federation.blobs.delete(key)
    else:
        federation.blobs.put_bytes(key, bytes(federation.blobs.size(key)))
    federation.advance()
    failed, again = federation.rounds()
    assert key in failed.reason
    assert (again.number, again.attempt) == (1, 2)


def test_a_full_disk_delays_the_round_and_loses_nothing(federation, monkeypatch, caplog) -> None:
    federation.advance()
    federation.contribute()

    def full(*_: object) -> None:
        raise DiskFull("The coordinator's disk is full.")

    monkeypatch.setattr(federation.blobs, "put_bytes", full)
    assert federation.conductor.advance_once()
    assert "disk is full" in caplog.text
    row = federation.newest()
    assert (row.state, row.lease_token) == ("aggregating", None)
    assert not federation.conductor.advance_once()  # it rests
    monkeypatch.undo()
    federation.clock.advance(2)
    federation.advance()
    assert federation.newest().state == "opening"
    assert federation.newest().lease_attempts == 0


def test_one_broken_round_does_not_hold_up_another_study(federation, caplog) -> None:
    federation.advance()
    broken = federation.newest().id
    federation.store.run("break", lambda s: setattr(s.get_one(Round, broken), "plan", {"no": "plan"}))
    other = uuid4()

    def second_study(session) -> None:
        columns = {column.key: getattr(session.get_one(Study, STUDY), column.key) for column in Study.__table__.columns}
        session.add(Study(**columns | {"id": other, "name": "second"}))
        session.flush()
        for table in (Membership, Approval, Epoch):
            for row in session.scalars(select(table)).all():
                values = {column.key: getattr(row, column.key) for column in table.__table__.columns}
                fresh = {"record_digest": "cd" * 32} if table is Epoch else {}
                session.add(table(**values | {"study_id": other} | fresh))

    federation.store.run("second", second_study)
    federation.conductor.advance_once()
    assert f"round {broken}: a step failed" in caplog.text
    assert [row.study_id for row in federation.rounds() if row.id != broken] == [other]
    caplog.clear()
    federation.conductor.advance_once()
    assert caplog.text == ""  # it rests, and does not fill the log


def test_long_work_breaks_off_when_the_process_ends_and_gives_its_lease_back(federation) -> None:
    federation.advance()
    federation.contribute()
    put = federation.blobs.put_bytes

    def put_and_stop(key, data):
        federation.conductor.stop()
        return put(key, data)

    federation.blobs.put_bytes = put_and_stop
    federation.conductor.advance_once()
    row = federation.newest()
    assert (row.state, row.add_seconds, row.lease_token) == ("aggregating", None, None)
    federation.blobs.put_bytes = put
    federation.conductor = federation.another_conductor()
    federation.advance()
    assert federation.newest().state == "opening"


def test_the_thread_plans_by_itself_and_ends_when_told(federation) -> None:
    planned = threading.Event()
    run = federation.store.run

    def watched(name, fn):
        value = run(name, fn)
        if name == "plan round":
            planned.set()
        return value

    federation.store.run = watched
    federation.conductor.start()
    assert planned.wait(30)
    federation.conductor.stop()
    assert threading.active_count() == 1 or all(thread.name != "conductor" for thread in threading.enumerate())
    assert federation.newest().state == "collecting"


def test_the_loop_survives_a_database_that_is_away(federation, caplog) -> None:
    read, tries, again = federation.store.read, [], threading.Event()

    def away(name, fn):
        tries.append(name)
        if len(tries) == 1:
            raise ConnectionError("the database is away")
        again.set()
        return read(name, fn)

    federation.store.read = away
    federation.conductor.start()
    assert again.wait(30)
    federation.conductor.stop()
    assert "the conductor could not look for work" in caplog.text
