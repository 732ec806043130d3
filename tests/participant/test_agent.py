"""The agent against a coordinator in memory that also lies: what it does, and what it refuses to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
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
from crypto.epoch import Approval, EpochRecord, WrapAddition
from crypto.errors import CryptoError, WrongDigest
from crypto.identity import Identity, verify
from crypto.layout import CountField, Layout, Tensor
from crypto.manifest import Ballot, Manifest, Opening, Refusal, Vote
from crypto.plan import Member, Plan, Roster
from crypto.schemes import scheme
from crypto.wire import Signed
from participant import agent, setup
from participant.agent import Agent, StudyLoop, only_one
from participant.files import write_whole
from participant.policy import Policy, Refused
from participant.progress import Advance, Lines
from participant.record import Record
from participant.settings import Config, Home, dump
from participant.steps.desk import Desk, code_of
from participant.steps.epochs import TURN_SECONDS
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
            "studies": lambda: [self.study()],
            "roster": self.roster.to_json,
            "task": self.full_task,
            "parts": lambda: {"parts": {}, "key_parts": {}, "manifest": False},
            "ballot": lambda: self.ballot and self.ballot.to_json(),
            "votes": lambda: [vote.to_json() for vote in self.votes],
            "rounds": lambda: self.rounds,
        }
        return httpx.Response(200, json=found[last]())

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


def refusals(coordinator: Coordinator) -> list[tuple[str, str]]:
    return [(each.step, each.code) for each in coordinator.messages("POST .*/refusal", Refusal)]


def ledgered(home: Home, event: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, home.ledger.read_text().splitlines()) if line["event"] == event]


# --- peers and keys


def test_a_dealer_makes_one_key_for_all_approved(coordinator: Coordinator, start: Opened) -> None:
    coordinator.epoch["dealer"] = str(ME)
    start().look()
    (approval,) = coordinator.messages("PUT .*/approval", Approval)
    assert approval.peers == {str(site): IDENTITIES[site].public.fingerprint for site in (NORTH, SOUTH)}
    (record,) = coordinator.messages("PUT .*/epoch$", EpochRecord)
    assert [wrap.recipient for wrap in record.wraps] == [ME, NORTH, SOUTH]
    context = PublicContext.load(coordinator.keys[record.context])
    wrap = next(wrap for wrap in record.wraps if wrap.recipient == SOUTH)
    epochs.unwrap(IDENTITIES[SOUTH], SOUTH, record, coordinator.keys[wrap.sha256]).check_pair(context)


def test_asking_comes_before_approving(coordinator: Coordinator, start: Opened, home: Home) -> None:
    write_whole(home.policy, dump(Policy(peers="ask")).encode())
    coordinator.epoch["dealer"] = str(ME)
    loop = start()
    loop.look()
    assert coordinator.messages("PUT .*/approval", Approval)[-1].peers == {}
    assert [wrap.recipient for wrap in coordinator.messages("PUT .*/epoch$", EpochRecord)[-1].wraps] == [ME]
    loop.desk.site.record.approve(STUDY, NORTH, IDENTITIES[NORTH].public.fingerprint)
    loop.look()
    assert list(coordinator.messages("PUT .*/approval", Approval)[-1].peers) == [str(NORTH)]


def test_a_peer_with_other_keys_than_before_is_refused(coordinator: Coordinator, start: Opened, home: Home) -> None:
    loop = start()
    loop.look()
    coordinator.identities[NORTH] = IDENTITIES[STRANGER]
    loop.look()
    assert list(coordinator.messages("PUT .*/approval", Approval)[-1].peers) == [str(SOUTH)]
    (refusal,) = ledgered(home, "refusal")
    assert refusal["code"] == "peer-changed"


def test_a_key_passed_on_by_a_member_is_held_and_passed_on(coordinator: Coordinator, start: Opened) -> None:
    dealt = coordinator.deal(members=(NORTH, SOUTH))
    record = dealt.record.message
    loop = start()
    loop.look()
    assert not loop.desk.site.keyring.holds(loop.desk.study.id, record.digest)
    addition, wrap = epochs.extend(IDENTITIES[SOUTH], SOUTH, record, dealt.secret, coordinator._member(ME))
    coordinator.keys[sha256(wrap)] = wrap
    coordinator.additions = [addition.to_json()]
    coordinator.members, coordinator.missing = (ME, NORTH, SOUTH, STRANGER), [STRANGER]
    for turn in range(3):  # of each holder once
        loop.desk.site = replace(loop.desk.site, clock=lambda turn=turn: turn * TURN_SECONDS)
        loop.look()
    assert loop.desk.site.keyring.holds(loop.desk.study.id, record.digest)
    sent = coordinator.messages("POST .*/epoch/additions", WrapAddition)
    assert {message.wrap.recipient for message in sent if message.acknowledges} == {ME}
    (added,) = [message for message in sent if not message.acknowledges]
    newcomer = epochs.unwrap(IDENTITIES[STRANGER], STRANGER, added, coordinator.keys[added.wrap.sha256])
    newcomer.check_pair(PublicContext.load(dealt.public_context))


def test_a_key_dealt_by_a_stranger_is_not_taken(coordinator: Coordinator, start: Opened) -> None:
    dealt = coordinator.deal(dealer=STRANGER, members=(ME, NORTH, SOUTH))
    loop = start()
    loop.look()
    assert not loop.desk.site.keyring.holds(loop.desk.study.id, dealt.record.message.digest)


def test_a_key_that_does_not_fit_its_public_half_is_refused(
    coordinator: Coordinator, start: Opened, home: Home
) -> None:
    good, other = coordinator.deal(), coordinator.deal()
    mixed = good.record.message.model_copy(update={"context": other.record.message.context})
    coordinator.epoch["record"] = IDENTITIES[NORTH].sign(mixed).to_json()
    loop = start()
    loop.look()
    assert not loop.desk.site.keyring.holds(loop.desk.study.id, mixed.digest)
    assert ledgered(home, "refusal")


# --- plans


def test_a_contribution_is_delivered(coordinator: Coordinator, start: Opened, home: Home) -> None:
    coordinator.deal()
    plan = coordinator.make_plan()
    start().look()
    (manifest,) = coordinator.messages("PUT .*/manifest", Manifest)
    assert manifest.plan == plan.digest
    assert manifest.parts == tuple(map(sha256, coordinator.bodies(r"PUT .*/1/1/parts/\d")))
    assert refusals(coordinator) == []
    assert [line["what"] for line in ledgered(home, "sent") if line.get("round") == 1] == [
        "part",
        "key-part",
        "manifest",
    ]


def test_a_restart_sends_the_same_bytes(coordinator: Coordinator, start: Opened) -> None:
    coordinator.deal()
    coordinator.make_plan()
    coordinator.answers["PUT .*/manifest"] = httpx.Response(409, json={"code": "parts-missing", "detail": "again"})
    start().look()
    del coordinator.answers["PUT .*/manifest"]
    start().look()
    first, second = coordinator.bodies("PUT .*/manifest")
    assert first == second
    first, second = coordinator.bodies("PUT .*/parts/0")
    assert first == second


def changed_roster(coordinator: Coordinator) -> None:
    coordinator.deal()
    coordinator.members = (ME, NORTH, SOUTH, STRANGER)
    coordinator.make_plan()
    coordinator.members = (ME, NORTH, SOUTH)  # the stranger is on no roster that anybody could have approved


def my_keys_replaced(coordinator: Coordinator) -> None:
    coordinator.deal()
    coordinator.identities[ME] = IDENTITIES[STRANGER]
    coordinator.make_plan()


def planned(**changes: Any) -> Callable[[Coordinator], None]:
    def make(coordinator: Coordinator) -> None:
        coordinator.deal()
        coordinator.make_plan(**changes)

    return make


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (changed_roster, "peer-not-approved"),
        (my_keys_replaced, "own-keys-differ"),
        (planned(minimum_contributors=2), "minimum-too-low"),
        (planned(rate=1.5), "rate-out-of-range"),
        (planned(recipe="1" * 64), "plan-of-other-study"),
        (planned(study=UUID(int=51)), "malformed"),
        (planned(roster="1" * 64), "wrong-digest"),
        (planned(bounds=(1.0,)), "plan-misfit"),
        (planned(base_model="1" * 64), "wrong-digest"),
    ],
)
def test_plans_that_are_refused(coordinator: Coordinator, start: Opened, home: Home, make: Any, code: str) -> None:
    make(coordinator)
    loop = start()
    loop.look()
    loop.look()
    assert refusals(coordinator) == [("plan", code)], "once, and in words for both operators"
    assert ledgered(home, "refusal")[0]["code"] == code
    assert coordinator.bodies("PUT .*/(parts|manifest)") == []


def test_another_plan_for_an_accepted_attempt(coordinator: Coordinator, start: Opened) -> None:
    coordinator.deal()
    coordinator.make_plan()
    loop = start()
    loop.look()
    coordinator.make_plan(n_max=7)
    loop.look()
    assert refusals(coordinator) == [("plan", "plan-differs")]
    assert len(coordinator.bodies("PUT .*/manifest")) == 1


def test_failed_training_is_told_without_its_details(coordinator: Coordinator, start: Opened, home: Home) -> None:
    coordinator.deal()
    coordinator.make_plan()
    loop = start()
    trainer = Trainer()
    trainer.error = ValueError("patient Smith's file is broken")
    loop.desk._trainer = trainer
    loop.look()
    loop.look()
    assert refusals(coordinator) == [("plan", "training-failed")]
    assert "Smith" not in str(coordinator.sent) + home.ledger.read_text()


def test_too_late_is_said_and_the_study_goes_on(coordinator: Coordinator, start: Opened, home: Home) -> None:
    coordinator.deal()
    coordinator.make_plan()
    closed = httpx.Response(409, json={"code": "round-closed", "detail": "closed at noon"})
    coordinator.answers["PUT .*/parts/0"] = closed
    loop = start()
    loop.look()
    assert ledgered(home, "not-taken")[0]["code"] == "round-closed"
    del coordinator.answers["PUT .*/parts/0"]
    coordinator.make_plan(attempt=2)
    loop.look()
    assert len(coordinator.bodies("PUT .*/1/2/manifest")) == 1


# --- ballots and openings


@pytest.fixture
def contributed(coordinator: Coordinator, start: Opened) -> tuple[StudyLoop, epochs.Dealt]:
    dealt = coordinator.deal()
    coordinator.make_plan()
    loop = start()
    loop.look()
    return loop, dealt


Contributed = tuple[StudyLoop, epochs.Dealt]


def test_a_ballot_is_voted_on_and_opened(coordinator: Coordinator, contributed: Contributed, home: Home) -> None:
    loop, dealt = contributed
    ballot = coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    loop.look()
    (vote,) = coordinator.messages("PUT .*/vote", Vote)
    assert vote.ballot == ballot.digest
    coordinator.vote_of(NORTH, ballot)
    coordinator.task["openers"] = [str(ME)]
    loop.look()
    (opening,) = coordinator.messages("PUT .*/opening", Opening)
    assert coordinator.plan is not None
    (mine,) = coordinator.bodies("PUT .*/1/1/parts/0")
    adder = scheme("lwe-ckks").adder(coordinator.plan, LAYOUT, 0)
    for part in (mine, *coordinator.parts_of[NORTH], *coordinator.parts_of[SOUTH]):
        adder.add(part)
    totals = [adder.total()]
    revealed = scheme("lwe-ckks").reveal(coordinator.plan, LAYOUT, totals, opening.secret_sum, 3)
    assert revealed.mean is not None
    assert np.abs(revealed.mean[:600] - (0.25 + 0.5 + 0.5) / 3).max() < 1e-6
    assert revealed.counts.recipe == (27,)


def test_an_answer_is_given_once_and_the_same_ever_after(
    coordinator: Coordinator, contributed: Contributed, start: Opened
) -> None:
    loop, dealt = contributed
    ballot = coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    coordinator.vote_of(NORTH, ballot)
    coordinator.task["openers"] = [str(ME)]
    loop.look()
    coordinator.key_parts = {}  # it cannot compute it again
    coordinator.votes.clear()
    coordinator.vote_of(NORTH, ballot)
    coordinator.task["voted"] = False
    start().look()
    first, second = coordinator.bodies("PUT .*/opening")
    assert first == second
    first, second = coordinator.bodies("PUT .*/vote")
    assert first == second


def test_two_votes_of_four_are_not_more_than_half(coordinator: Coordinator, start: Opened) -> None:
    coordinator.members = (ME, NORTH, SOUTH, STRANGER)
    dealt = coordinator.deal(members=coordinator.members)
    coordinator.make_plan()
    loop = start()
    loop.look()
    ballot = coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    coordinator.vote_of(NORTH, ballot)
    coordinator.task["openers"] = [str(ME)]
    loop.look()
    assert len(coordinator.votes) == 2
    assert coordinator.bodies("PUT .*/opening") == []
    coordinator.vote_of(STRANGER, ballot)
    loop.look()
    assert len(coordinator.bodies("PUT .*/opening")) == 1


@pytest.mark.parametrize("forgery", ["signature", "twice", "other ballot"])
def test_forged_votes_open_nothing(coordinator: Coordinator, contributed: Contributed, forgery: str) -> None:
    loop, dealt = contributed
    ballot = coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    match forgery:
        case "signature":
            coordinator.vote_of(NORTH, ballot, IDENTITIES[STRANGER])
        case "twice":
            coordinator.votes.append(IDENTITIES[ME].sign(Vote(ballot=ballot.digest, site=ME)))
        case _:
            other = Ballot(plan=ballot.plan, manifests=ballot.manifests[1:])
            coordinator.vote_of(NORTH, other)
    coordinator.task["openers"] = [str(ME)]
    loop.look()
    assert coordinator.bodies("PUT .*/opening") == []
    assert [step for step, _ in refusals(coordinator)] == ["opening"]


def test_a_second_ballot_of_an_attempt_gets_no_vote(coordinator: Coordinator, start: Opened) -> None:
    coordinator.members = (ME, NORTH, SOUTH, STRANGER)
    dealt = coordinator.deal(members=coordinator.members)
    coordinator.make_plan()
    loop = start()
    loop.look()
    coordinator.open_ballot(dealt, ME, NORTH, SOUTH, STRANGER)
    loop.look()
    coordinator.open_ballot(dealt, NORTH, SOUTH, STRANGER)
    coordinator.task["voted"] = False
    loop.look()
    assert len(coordinator.bodies("PUT .*/vote")) == 1
    assert refusals(coordinator) == [("ballot", "ballot-differs")]


def test_a_ballot_below_the_minimum_gets_no_vote(coordinator: Coordinator, contributed: Contributed) -> None:
    loop, dealt = contributed
    coordinator.open_ballot(dealt, ME, NORTH)
    loop.look()
    assert coordinator.bodies("PUT .*/vote") == []
    assert refusals(coordinator) == [("ballot", "malformed")]


def test_a_manifest_signed_by_another_gets_no_vote(coordinator: Coordinator, contributed: Contributed) -> None:
    loop, dealt = contributed
    coordinator.identities[SOUTH] = IDENTITIES[STRANGER]
    coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    coordinator.identities[SOUTH] = IDENTITIES[SOUTH]
    loop.look()
    assert coordinator.bodies("PUT .*/vote") == []
    assert refusals(coordinator) == [("ballot", "invalid-signature")]


def test_a_ballot_without_this_sites_manifest_is_noted(coordinator: Coordinator, start: Opened, home: Home) -> None:
    coordinator.members = (ME, NORTH, SOUTH, STRANGER)
    dealt = coordinator.deal(members=coordinator.members)
    coordinator.make_plan()
    loop = start()
    loop.look()
    coordinator.open_ballot(dealt, NORTH, SOUTH, STRANGER)
    loop.look()
    assert len(coordinator.bodies("PUT .*/vote")) == 1
    assert ledgered(home, "ballot")[0]["own_missing"] is True


def test_swapped_key_parts_are_refused(coordinator: Coordinator, contributed: Contributed) -> None:
    loop, dealt = contributed
    ballot = coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    coordinator.vote_of(NORTH, ballot)
    coordinator.task["openers"] = [str(ME)]
    coordinator.key_parts[SOUTH] = coordinator.key_parts[NORTH]
    loop.look()
    assert coordinator.bodies("PUT .*/opening") == []
    assert refusals(coordinator) == [("opening", "wrong-digest")]


def test_after_a_vote_further_attempts_of_the_round_are_refused(
    coordinator: Coordinator, contributed: Contributed
) -> None:
    loop, dealt = contributed
    coordinator.open_ballot(dealt, ME, NORTH, SOUTH)
    loop.look()
    coordinator.make_plan(attempt=2)
    loop.look()
    assert refusals(coordinator) == [("plan", "round-over")]
    coordinator.make_plan(round=2)
    loop.look()
    assert len(coordinator.bodies("PUT .*/2/1/manifest")) == 1


# --- endings


def ended(coordinator: Coordinator, state: str, *contributors: UUID, round: int = 1) -> None:  # noqa: A002
    last = {"round": round, "attempt": 1, "state": state, "reason": None, "model": sha256(coordinator.model)}
    coordinator.task = {"last": {**last, "contributors": [str(site) for site in contributors]}}


@pytest.mark.parametrize(
    ("state", "contributors", "kept"),
    [("complete", (ME, NORTH, SOUTH), True), ("complete", (NORTH, SOUTH), False), ("failed", (ME, NORTH), False)],
)
def test_a_residual_and_local_state_count_with_their_attempt(
    coordinator: Coordinator, contributed: Contributed, home: Home, state: str, contributors: Any, kept: bool
) -> None:
    loop, _ = contributed
    ended(coordinator, state, *contributors)
    loop.look()
    assert (home.residuals / f"{STUDY}.npy").exists() is kept
    states = [file.read_bytes() for file in home.local_state(STUDY).glob("*")]
    assert states == ([b"what stays here"] if kept else [])
    assert not list(home.sealed.glob("*/*"))
    (line,) = [json.loads(line) for line in home.timings.read_text().splitlines()]
    assert (line["round"], line["train_seconds"], line["open_seconds"]) == (1, 0.5, None)


def test_a_site_that_was_away_asks_how_its_attempt_ended(
    coordinator: Coordinator, contributed: Contributed, home: Home
) -> None:
    loop, _ = contributed
    row = {"round": 1, "attempt": 1, "state": "complete", "reason": None, "contributors": [str(ME), str(NORTH)]}
    coordinator.rounds = [row]
    ended(coordinator, "complete", NORTH, SOUTH, round=3)
    loop.look()
    assert (home.residuals / f"{STUDY}.npy").exists()


# --- the agent around the loops


@pytest.mark.parametrize("error", [Refused("key-lost", "the key is not here"), WrongDigest("these are other bytes")])
def test_what_a_look_refuses_is_said_once_each_time_and_noted_once(
    start: Opened, home: Home, caplog: pytest.LogCaptureFixture, error: Refused | CryptoError
) -> None:
    desk = start().desk
    for times in (1, 2):
        agent._explain(desk, error)
        said = [record.getMessage() for record in caplog.records if str(error) in record.getMessage()]
        assert said == [f"{desk.study.name}: refused ({code_of(error)}): {error}; trying again"] * times
    (line,) = ledgered(home, "refusal")
    assert (line["code"], line["words"]) == (code_of(error), str(error))


def test_one_agent_a_home(tmp_path: Path) -> None:
    with only_one(tmp_path / "lock"), pytest.raises(Refused, match="already runs"), only_one(tmp_path / "lock"):
        pass


def test_once_around_joins_and_contributes(coordinator: Coordinator, home: Home) -> None:
    coordinator.deal()
    coordinator.make_plan()
    http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(coordinator))
    with setup.open_site(home, Lines(), make_trainer=lambda study: Trainer(), http=http) as site:
        Agent().run(site, "once")
    assert len(coordinator.bodies("PUT .*/manifest")) == 1


def test_a_study_outside_the_policy_is_not_joined(coordinator: Coordinator, home: Home) -> None:
    write_whole(home.policy, dump(Policy(recipes=["ucadi"])).encode())
    http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(coordinator))
    with setup.open_site(home, Lines(), make_trainer=lambda study: Trainer(), http=http) as site:
        Agent().run(site, "once")
    assert coordinator.sent == []
    assert "recipes" in ledgered(home, "refusal")[0]["words"]


def test_signatures_of_the_agent_verify(coordinator: Coordinator, contributed: Contributed) -> None:
    signed = Signed[Manifest].from_json(json.loads(coordinator.bodies("PUT .*/manifest")[0]))
    assert verify(IDENTITIES[ME].public, signed).site == ME
