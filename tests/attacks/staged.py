"""Real agents, looked through step by step, in front of a coordinator that a test may turn against them.

Honest traffic goes up to one point (`until_planned`, `until_ballot`); then the test sets rules on `hostile`, lets the
agents look again, and asserts what they refused, what they wrote down and said, and that nothing left them.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from forging import Json, opens, signed
from hostile import Hostile
from numpy.typing import NDArray
from tiny_federation import LAYOUT, Hospital, Server

from coordinator.clock import SystemClock
from coordinator.conductor import Conductor
from crypto.canonical import digest, sha256
from crypto.ckks_public import PublicContext
from crypto.errors import CryptoError
from crypto.identity import Identity
from crypto.manifest import Ballot, Manifest
from crypto.parameters import N
from crypto.plan import Plan, Roster, draw
from crypto.schemes import Recipients, scheme
from crypto.schemes.opening import open_ballot
from crypto.schemes.shares import open_shares, seal_shares
from crypto.shamir import minimum_threshold
from crypto.wire import Signed
from participant.agent import StudyLoop

TASK = r"GET .*/task$"
ANSWERS = r"PUT .*/(vote|opening)$"
CONTRIBUTIONS = r"PUT .*/rounds/{}/{}/(parts|key-parts|manifest)"


@dataclass
class Seat:
    """A hospital and its agent's loop."""

    hospital: Hospital
    loop: StudyLoop

    @property
    def id(self) -> UUID:
        return self.loop.desk.site.me

    @property
    def identity(self) -> Identity:
        """The keys. Only a test of what colluding members can do uses them."""
        return self.loop.desk.site.identity

    def ledgered(self, event: str) -> list[Json]:
        return self.hospital.events(event)


@dataclass(frozen=True)
class Contribution:
    """What a ballot lists, with the bytes it lists them for."""

    manifest: Signed[Manifest]
    key_parts: tuple[bytes, ...]


class Ahead(SystemClock):
    """A clock that a test can move, so that deadlines pass."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


@dataclass
class Federation:
    """A study of `seats` under `server`, which `hostile` stands before."""

    scheme: str
    server: Server
    hostile: Hostile
    conductor: Conductor
    clock: Ahead
    caplog: pytest.LogCaptureFixture | None
    study: UUID
    seats: list[Seat] = field(default_factory=list)

    # --- honest traffic

    def look(self, *seats: Seat) -> None:
        """These agents, or all of them, look at their task once."""
        for seat in seats or self.seats:
            seat.loop.look()

    def go_on(self, until: Callable[[], bool], what: str, turns: int = 12) -> None:
        """All agents look and the coordinator takes its steps, turn by turn."""
        for _ in range(turns):
            if until():
                return
            self.look()
            self.conductor.advance_once()
        raise AssertionError(f"{turns} turns did not lead to {what}: {self.rows()}")

    def until_planned(self) -> Plan:
        """Keys dealt, a plan out, and no agent has seen it."""
        self.go_on(lambda: bool(self.rows()), "a plan")
        return self.plan

    def until_ballot(self) -> Ballot:
        """Everything contributed, the ballot stored, and no agent has seen it."""
        self.go_on(lambda: self.state() == "opening", "a ballot")
        return self.ballot

    def until_complete(self, number: int = 1) -> None:
        self.go_on(lambda: (number, "complete") in [(r["round"], r["state"]) for r in self.rows()], f"round {number}")

    def rows(self) -> list[Json]:
        return self.server.rounds(str(self.study))

    def state(self) -> str | None:
        rows = self.rows()
        return str(rows[-1]["state"]) if rows else None

    @property
    def plan(self) -> Plan:
        return Plan.from_json(self.rows()[-1]["plan"])

    @property
    def roster(self) -> Roster:
        return Roster.from_json(self._get("roster"))

    @property
    def ballot(self) -> Ballot:
        return Ballot.from_json(self._get("ballot"))

    @property
    def here(self) -> str:
        row = self.rows()[-1]
        return f"/v1/studies/{self.study}/rounds/{row['round']}/{row['attempt']}"

    def _get(self, what: str) -> Any:
        return self.server.http.get(f"{self.here}/{what}").raise_for_status().json()

    # --- what the coordinator holds

    def contribution(self, seat: Seat) -> Contribution:
        """What a site delivered for the current attempt."""
        manifest = next(each for each in self.ballot.manifests if each.message.site == seat.id)
        return Contribution(manifest, tuple(self.uploaded(digest) for digest in manifest.message.key_parts))

    def delivered(self, number: int, attempt: int = 1) -> list[Contribution]:
        """What the sites sent for an attempt, in the order in which it came; also what the coordinator never saw."""
        sent = self.hostile.sent(rf"PUT .*/rounds/{number}/{attempt}/manifest$")
        manifests = [signed(Manifest, each) for each in sent]
        return [Contribution(each, tuple(map(self.uploaded, each.message.key_parts))) for each in manifests]

    def uploaded(self, digest: str) -> bytes:
        """Bytes that some site sent, by their SHA-256."""
        return next(each.body for each in self.hostile.sent("^PUT") if sha256(each.body) == digest)

    def public_context(self) -> PublicContext:
        record = self._epoch()
        return PublicContext.load(self.uploaded(record["context"]))

    def epoch_digest(self) -> str:
        return digest(self._epoch())

    def _epoch(self) -> Json:
        found: Json = self.server.http.get(f"/v1/studies/{self.study}/epoch").json()["record"]["message"]
        return found

    # --- what it can make up

    def forge(self, site: UUID, identity: Identity, plan: Plan | None = None) -> Contribution:
        """A contribution without a secret in it, in a site's name: if it counts, the sum opens the others' alone."""
        plan, zeros = plan or self.plan, np.zeros(N, np.int64)
        if plan.threshold is None:
            key_parts: tuple[bytes, ...] = (self.public_context().encrypt(zeros),)
        else:
            key_parts = seal_shares(plan, Recipients(self.roster, site), zeros)
        digests = {"parts": (sha256(site.bytes),), "key_parts": tuple(map(sha256, key_parts))}
        return Contribution(identity.sign(Manifest(plan=plan.digest, site=site, **digests)), key_parts)

    def ballot_of(self, contributions: Iterable[Contribution], plan: Plan | None = None) -> Ballot:
        manifests = sorted((each.manifest for each in contributions), key=lambda each: each.message.site.bytes)
        return Ballot(plan=(plan or self.plan).digest, manifests=tuple(manifests))

    def show(
        self,
        ballot: Ballot,
        contributions: Iterable[Contribution] = (),
        *seats: Seat,
        plan: Plan | None = None,
        roster: Roster | None = None,
    ) -> None:
        """Show these sites, or all, another ballot, serve its key parts, and ask everybody for an answer.

        Args:
            plan, roster: in place of the attempt's own.
        """
        sites, task = [seat.id for seat in seats], self._opening(ballot)
        task |= {"plan": plan.to_json()} if plan is not None else {}
        task |= {"roster": roster.to_json()} if roster is not None else {}
        self.hostile.change(TASK, lambda found: found | task, *sites)
        self.hostile.answer(r"GET .*/ballot$", ballot.to_json(), *sites)
        self.hostile.swallow(ANSWERS, *sites)
        for each in contributions:
            for number, data in enumerate(each.key_parts):
                self.hostile.answer(rf"GET .*/key-parts/{each.manifest.message.site}/{number}$", data, *sites)

    def all_vote(self) -> None:
        """Everybody looks at the honest ballot and votes on it, where a scheme has votes; nobody is asked to open."""
        self.hostile.change(TASK, lambda task: task | {"openers": []})
        self.look()
        self.hostile.behave()

    def _opening(self, ballot: Ballot) -> Json:
        everybody = [str(seat.id) for seat in self.seats]
        asks = {"phase": "opening", "ballot": ballot.digest, "openers": everybody}
        return asks | {"contributed": True, "voted": False, "opened": False, "last": None}

    def seal(self, seat: Seat) -> tuple[list[bytes], list[bytes]]:
        """Parts and key parts of an ordinary contribution of a site to the plan."""
        plan, trainer = self.plan, seat.hospital.trainer
        to = Recipients(self.roster, seat.id) if plan.threshold is not None else self.public_context()
        counts = [0] * sum(field.size for field in LAYOUT.counts)
        sealed = scheme(plan.scheme).seal(plan, LAYOUT, trainer.update(LAYOUT.size, 1), trainer.samples, counts, to)
        return [bytes(part) for part in sealed], list(sealed.key_parts)

    def manifest_of(self, seat: Seat, parts: list[bytes], key_parts: list[bytes]) -> Signed[Manifest]:
        digests = {"parts": tuple(map(sha256, parts)), "key_parts": tuple(map(sha256, key_parts))}
        return seat.identity.sign(Manifest(plan=self.plan.digest, site=seat.id, **digests))

    def resigned(self, contribution: Contribution, identity: Identity) -> Contribution:
        """A contribution as it is, signed anew for what its key parts are now."""
        manifest = contribution.manifest.message
        changed = manifest.model_copy(update={"key_parts": tuple(map(sha256, contribution.key_parts))})
        return Contribution(identity.sign(changed), contribution.key_parts)

    def offer(self, plan: Plan, roster: Roster | None = None, *seats: Seat) -> None:
        """Give these sites, or all, another plan to contribute to."""
        task = {"phase": "collecting", "plan": plan.to_json(), "contributed": False, "ballot": None}
        task |= {"roster": (roster or self.roster).to_json(), "last": None, "openers": []}
        self.hostile.change(TASK, lambda found: found | task, *[seat.id for seat in seats])

    def altered(self, plan: Plan, roster: Roster | None = None, **changes: Any) -> tuple[Plan, Roster]:
        """Another plan, made with the care of an attacker: its digests, its draw and its threshold fit its roster."""
        roster, made = roster or self.roster, {**plan.to_json(), **changes}
        members = len(roster.members)
        asked = draw(roster, made["round"], made["attempt"], members)
        made |= {"roster": roster.digest, "expected": [str(site) for site in asked], "k_max": max(members, plan.k_max)}
        if plan.threshold is not None:
            made["threshold"] = minimum_threshold(members)
        return Plan.from_json(made | changes), roster

    # --- what an attack would have paid

    def would_open(self, ballot: Ballot, contributions: Sequence[Contribution]) -> NDArray[np.int64]:
        """What the sites' keys would give for a ballot if no check stood in the way."""
        plan, parts = self.plan, {each.manifest.message.site: each.key_parts for each in contributions}
        if plan.threshold is None:
            secret = self.seats[0].loop.desk.site.keyring.secret(plan.study, plan.epoch or "")
            return np.array(open_ballot(plan, ballot, parts, secret, self.seats[0].id).secret_sum, np.int64)
        roster, answers = self.roster, []
        places = {member.site: place for place, member in enumerate(roster.members)}
        for seat in self.seats[: plan.threshold]:
            shares = {site: data[places[seat.id]] for site, data in parts.items()}
            answers.append(open_shares(plan, roster, ballot, shares, seat.identity, seat.id))
        return np.array(scheme(plan.scheme).combine(plan, roster, answers).values, np.int64)

    def reads(self, seat: Seat, secret_sum: NDArray[np.int64]) -> bool:
        """Whether a coordinator with this sum of secrets reads the update of one site off its body."""
        plan = self.plan
        bodies = [self.uploaded(digest) for digest in self.contribution(seat).manifest.message.parts]
        try:
            revealed = scheme(plan.scheme).reveal(plan, LAYOUT, bodies, secret_sum.tolist(), 1)
        except CryptoError:
            return False
        assert revealed.mean is not None
        update = seat.hospital.trainer.update(LAYOUT.size, plan.round)
        return bool(np.abs(revealed.mean - update).max() < 1e-4)

    # --- what has to hold

    def mark(self) -> int:
        """A place in the traffic, to look from there on."""
        return len(self.hostile.log)

    def assert_refused(self, code: str, words: str, *seats: Seat, posted: bool = True, since: int = 0) -> None:
        """Each of these sites, or all, wrote its no into the ledger, said it on the terminal, and told it.

        Args:
            code, words: of the ledger's line, and what the operator reads; as regular expressions.
            posted: also in a signed refusal to the coordinator, as it is about a plan or a ballot.
        """
        for seat in seats or self.seats:
            lines = [line for line in seat.ledgered("refusal") if re.fullmatch(code, line["code"])]
            assert any(re.search(words, line["words"]) for line in lines), seat.ledgered("refusal")
            told = self.hostile.sent(r"POST .*/(share-)?refusal$", seat.id, since=since)
            codes = [each.message().get("code", "shares-refused") for each in told]
            assert posted == any(re.fullmatch(code, each) for each in codes), codes
        self.assert_said(rf"refused \(({code})\): .*({words})")

    def assert_said(self, words: str) -> None:
        """A hospital's operator was told, on the terminal."""
        assert self.caplog is not None
        said = [record.getMessage() for record in self.caplog.records if record.levelno >= logging.WARNING]
        assert any(re.search(words, line) for line in said), said

    def assert_unanswered(self, since: int, *seats: Seat) -> None:
        """No vote and nothing that opens left these sites, or any."""
        left = self.hostile.sent(ANSWERS, *[seat.id for seat in seats], since=since)
        assert not left, [each.name for each in left]

    def assert_unopened(self, since: int) -> None:
        """Votes may have left, and nothing that opens."""
        left = self.hostile.sent(r"PUT .*/opening$", since=since)
        assert not left, [each.name for each in left]

    def assert_nothing_sealed(self, since: int, *seats: Seat, number: int = 1, attempt: int = 1) -> None:
        """These sites, or all, sent nothing of a contribution to that attempt."""
        left = self.hostile.sent(CONTRIBUTIONS.format(number, attempt), *[seat.id for seat in seats], since=since)
        assert not left, [each.name for each in left]

    def opened_by(self, identity: Identity, *recipients: UUID) -> list[str]:
        """Names of all uploads that these keys open, sealed under the name of any of these sites or of a member."""
        blobs = self.hostile.sent(r"PUT .*/(keys|key-parts)/")
        contexts = {sha256(each.body) for each in blobs} | {plan.digest for plan in self._plans_shown()}
        contexts |= {digest(each.message()) for each in self.hostile.sent(r"PUT .*/epoch$")}
        sites = {seat.id for seat in self.seats} | set(recipients)
        return [
            each.name
            for each in blobs
            if any(opens(identity, each, context, site) for context in contexts for site in sites)
        ]

    def _plans_shown(self) -> set[Plan]:
        tasks = [json.loads(each.answer) for each in self.hostile.sent("GET .*/task$") if each.status == 200]
        return {Plan.from_json(task["plan"]) for task in tasks if task["plan"]}
