"""The calls of docs/wire.md, one method each. Outbound only; whatever leaves is told to the ledger first."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

import httpx
from pydantic import TypeAdapter

from crypto.canonical import canonical, check_digest, sha256
from crypto.epoch import Approval, EpochRecord, WrapAddition
from crypto.errors import WrongDigest
from crypto.identity import Identity, enrolment_bytes
from crypto.manifest import Answer, Ballot, Manifest, Refusal, ShareRefusal, StudyRefusal, Vote
from crypto.outcome import Outcome, SealedAnswer, SealedModel, SpotCheck
from crypto.plan import Member, Plan, Roster
from crypto.site_evaluation import SiteEvaluation
from crypto.wire import Message, Signed
from participant.documents import (
    Delivered,
    Enrolment,
    EpochState,
    PooledCounts,
    RoundRow,
    ServerStatus,
    Study,
    Task,
    read,
    read_kept,
)
from participant.session import Pause, Problem, Session

LONGEST_WAIT: Final = 25.0  # seconds a coordinator holds a long-poll
_TIMEOUT: Final = httpx.Timeout(60.0, connect=15.0)
_SLACK: Final = 20.0  # seconds beyond a long-poll until the connection counts as dead

T = TypeVar("T")
A = TypeVar("A", bound=Answer)


@dataclass(frozen=True, slots=True)
class Leaving:
    """Something about to leave this site: what it is, how large, its hash, and which attempt it belongs to."""

    what: str
    size: int
    sha256: str
    study: UUID | None = None
    round: int | None = None
    attempt: int | None = None


Witness = Callable[[Leaving], None]


def connect(url: str, ca_file: Path | None = None, transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """Connections to the coordinator. Proxies come from the usual variables, a private authority from `ca_file`."""
    context = ssl.create_default_context(cafile=ca_file) if ca_file is not None else True
    return httpx.Client(base_url=url, verify=context, transport=transport, timeout=_TIMEOUT)


@dataclass(frozen=True)
class Client:
    """Everything an agent asks of a coordinator.

    Every method raises Problem (the coordinator said no) and Unreachable (it did not answer while patience lasted),
    and Malformed for an answer that is not what it should be.
    """

    session: Session
    witness: Witness

    def pausing(self, pause: Pause) -> Client:
        """The same client with another way to wait between tries, on the same connections."""
        return replace(self, session=self.session.pausing(pause))

    # --- the site and its studies

    def enrol(self, invitation: str, name: str, identity: Identity) -> Enrolment:
        """Redeem a single-use invitation: the private keys prove themselves and stay here."""
        proof = identity.sign_bytes(enrolment_bytes(invitation, name, identity.public))
        body = {
            "invitation": invitation,
            "name": name,
            "signing_key": identity.public.signing_key.hex(),
            "hpke_key": identity.public.hpke_key.hex(),
            "proof": proof.hex(),
        }
        shown = canonical({key: value for key, value in body.items() if key != "invitation"})
        self.witness(Leaving("enrolment", len(shown), sha256(shown)))
        return read(TypeAdapter(Enrolment), self.session.request("POST", "/v1/enrolments", json=body).content)

    def status(self) -> ServerStatus:
        return self._get(ServerStatus, "/v1/status")

    def studies(self) -> list[Study]:
        return self._all(list[Study], "/v1/studies")

    def study(self, study: UUID) -> Study:
        return self._get(Study, f"/v1/studies/{study}")

    def join(self, study: UUID) -> None:
        self.session.request("PUT", f"/v1/studies/{study}/membership")

    def leave(self, study: UUID, *, withdraw: bool = False) -> None:
        """`withdraw`: also from later sums, where the study goes on counting sites that left."""
        params = {"withdraw": "true"} if withdraw else {}
        self.session.request("DELETE", f"/v1/studies/{study}/membership", params=params)

    def roster(self, study: UUID, known: Roster | None = None) -> Roster:
        """The active members: candidates for the next plan. The `known` one does not travel again."""
        response = self.session.request("GET", f"/v1/studies/{study}/roster", params=_known(known))
        if known is not None and response.status_code == HTTPStatus.NO_CONTENT:
            return known
        return read_kept(Roster, response.content)

    def former_members(self, study: UUID) -> list[Member]:
        """Members that left and still count, or may come to."""
        return self._get(list[Member], f"/v1/studies/{study}/former-members")

    def approve(self, approval: Signed[Approval]) -> None:
        study = approval.message.study
        self._send("PUT", f"/v1/studies/{study}/approval", "approval", approval, study)

    def task(self, study: UUID, cursor: str | None, wait: float, known: Roster | None = None) -> Task:
        """What the study asks of this site now; with the last answer's cursor, news within `wait` seconds.

        The `known` roster does not travel again: whether the plan is of it, its digest in the plan says.
        """
        params = {"wait": f"{wait:g}"} | ({"cursor": cursor} if cursor is not None else {}) | _known(known)
        response = self.session.request("GET", f"/v1/studies/{study}/task", params=params, timeout=wait + _SLACK)
        task = read(TypeAdapter(Task), response.content)
        if task.plan is not None and task.roster is None and known is not None and task.plan.roster == known.digest:
            return task.model_copy(update={"roster": known})
        return task

    def rounds(self, study: UUID) -> list[RoundRow]:
        return self._all(list[RoundRow], f"/v1/studies/{study}/rounds")

    # --- keys

    def epoch(self, study: UUID) -> EpochState:
        return self._get(EpochState, f"/v1/studies/{study}/epoch")

    def put_key(self, study: UUID, what: str, data: bytes) -> str:
        """Store a public context or a wrap under its SHA-256, which is returned."""
        name = sha256(data)
        self.witness(Leaving(what, len(data), name, study))
        self.session.request("PUT", f"/v1/studies/{study}/keys/{name}", content=data)
        return name

    def get_key(self, study: UUID, name: str) -> bytes:
        """The octets of that SHA-256.

        Raises:
            WrongDigest: the answer is something else.
        """
        return self._octets(f"/v1/studies/{study}/keys/{name}", name, "a key blob")

    def put_epoch(self, record: Signed[EpochRecord]) -> None:
        study = record.message.study
        self._send("PUT", f"/v1/studies/{study}/epoch", "epoch-record", record, study)

    def add_wrap(self, study: UUID, addition: Signed[WrapAddition]) -> None:
        self._send("POST", f"/v1/studies/{study}/epoch/additions", "wrap-addition", addition, study)

    # --- a round

    def delivered(self, plan: Plan) -> Delivered:
        return self._get(Delivered, f"{_round(plan)}/parts")

    def put_part(self, plan: Plan, kind: str, number: int, data: bytes) -> None:
        """Upload one part; `kind` is "parts" (of the body), "key-parts", "opened" or "sealed". Again is harmless."""
        hashed = hashlib.sha256(data)
        what = {"parts": "part", "key-parts": "key-part", "opened": "opened-part", "sealed": "sealed-answer"}[kind]
        self.witness(Leaving(what, len(data), hashed.hexdigest(), plan.study, plan.round, plan.attempt))
        announced = f"sha-256=:{base64.b64encode(hashed.digest()).decode()}:"
        self.session.request(
            "PUT", f"{_round(plan)}/{kind}/{number}", content=data, headers={"Content-Digest": announced}
        )

    def put_manifest(self, plan: Plan, manifest: Signed[Manifest]) -> None:
        self._send_round("PUT", plan, "manifest", "manifest", manifest)

    def ballot(self, plan: Plan) -> Ballot:
        return read_kept(Ballot, self.session.request("GET", f"{_round(plan)}/ballot").content)

    def key_part(self, plan: Plan, site: UUID, number: int, digest: str) -> bytes:
        """A contributor's key part.

        Raises:
            WrongDigest: it is not the one in the manifest.
        """
        return self._octets(f"{_round(plan)}/key-parts/{site}/{number}", digest, f"the key part {number} of {site}")

    def vote(self, plan: Plan, vote: Signed[Vote]) -> None:
        self._send_round("PUT", plan, "vote", "vote", vote)

    def votes(self, plan: Plan) -> list[Signed[Vote]]:
        return self._get(list[Signed[Vote]], f"{_round(plan)}/votes")

    def summed_part(self, plan: Plan, number: int) -> bytes:
        """One part of the sum, in a study whose members open it themselves. Whose sum it is, no digest tells."""
        return self.session.request("GET", f"{_round(plan)}/sums/{number}").content

    def plan_roster(self, plan: Plan) -> Roster:
        """The roster that the plan was made for; the plan has its digest."""
        return self._get(Roster, f"{_round(plan)}/roster")

    def body_part(self, plan: Plan, site: UUID, number: int, digest: str) -> bytes:
        """A contributor's body part, for a spot check.

        Raises:
            WrongDigest: it is not the one in the manifest.
        """
        return self._octets(f"{_round(plan)}/parts/{site}/{number}", digest, f"part {number} of site {site}")

    def counts(self, plan: Plan) -> PooledCounts:
        return self._get(PooledCounts, f"{_round(plan)}/counts")

    def spot_check(self, plan: Plan, check: Signed[SpotCheck]) -> None:
        self._send_round("PUT", plan, "spot-check", "spot-check", check)

    def give_evaluation(self, plan: Plan, evaluation: Signed[SiteEvaluation]) -> None:
        self._send_round("PUT", plan, "site-evaluation", "site-evaluation", evaluation)

    def openings(self, plan: Plan, kind: type[A]) -> list[Signed[A]]:
        """All signed answers to the ballot."""
        return self._get(list[Signed[kind]], f"{_round(plan)}/openings")  # type: ignore[valid-type]

    def sealed_answers(self, plan: Plan) -> list[Signed[SealedAnswer]]:
        """All answers that members sealed to each other."""
        return self._get(list[Signed[SealedAnswer]], f"{_round(plan)}/openings")

    def answer_envelope(self, plan: Plan, sender: UUID, place: int, digest: str) -> bytes:
        """A member's answer, sealed to the member at that place in the roster: this site.

        Raises:
            WrongDigest: it is not the one that its sender signed for.
        """
        return self._octets(f"{_round(plan)}/sealed/{sender}/{place}", digest, f"the sealed answer of {sender}")

    def seal_answer(self, plan: Plan, answer: Signed[SealedAnswer]) -> None:
        self._send_round("PUT", plan, "sealed-answer", "sealed-answer", answer)

    def give_outcome(self, plan: Plan, outcome: Signed[Outcome]) -> None:
        self._send_round("PUT", plan, "outcome", "outcome", outcome)

    def outcomes(self, plan: Plan) -> list[Signed[Outcome]]:
        """What the members made of the ballot, each for itself."""
        return self._get(list[Signed[Outcome]], f"{_round(plan)}/outcomes")

    def plan(self, study: UUID, number: int, attempt: int) -> Plan:
        """The plan of an attempt that may have ended."""
        return self._get(Plan, f"/v1/studies/{study}/rounds/{number}/{attempt}/plan")

    def refuse_shares(self, plan: Plan, refusal: Signed[ShareRefusal]) -> None:
        self._send_round("POST", plan, "share-refusal", "refusal", refusal)

    def open(self, plan: Plan, opening: Signed[A]) -> None:
        self._send_round("PUT", plan, "opening", "opening", opening)

    def refuse(self, plan: Plan, refusal: Signed[Refusal]) -> None:
        self._send_round("POST", plan, "refusal", "refusal", refusal)

    def refuse_study(self, refusal: Signed[StudyRefusal]) -> None:
        study = refusal.message.study
        self._send("POST", f"/v1/studies/{study}/refusal", "study-refusal", refusal, study)

    # --- models that only members hold

    def request_model(self, study: UUID, model: str) -> None:
        """Ask the members that have it for the study's current model."""
        self.session.request("PUT", f"/v1/studies/{study}/models/{model}/request")

    def withdraw_request(self, study: UUID, model: str) -> None:
        """This site has it now."""
        self.session.request("DELETE", f"/v1/studies/{study}/models/{model}/request")

    def put_sealed_model(self, sealed: Signed[SealedModel], envelope: bytes) -> None:
        """Pass a model on in an envelope, and then this site's word for it."""
        message = sealed.message
        place = f"/v1/studies/{message.study}/models/{message.model}/envelopes"
        self.witness(Leaving("sealed-model", len(envelope), message.sha256, message.study))
        self.session.request("PUT", f"{place}/{message.recipient}", content=envelope)
        self._send("PUT", place, "sealed-model-notice", sealed, message.study)

    def sealed_models(self, study: UUID, model: str) -> list[Signed[SealedModel]]:
        """The word of every member that sealed the model to this site."""
        return self._get(list[Signed[SealedModel]], f"/v1/studies/{study}/models/{model}/envelopes")

    def model_envelope(self, sealed: SealedModel) -> bytes:
        """The model in an envelope.

        Raises:
            WrongDigest: it is not the one that its holder signed for.
        """
        path = f"/v1/studies/{sealed.study}/models/{sealed.model}/envelopes/{sealed.holder}"
        return self._octets(path, sealed.sha256, f"the model sealed by {sealed.holder}")

    def download_model(self, digest: str, file: Path) -> None:
        """Fetch a model file into `file`, going on where a torn download ended.

        Raises:
            WrongDigest: what came is not the model of that digest; the file is removed.
        """
        self.session.persist(lambda: self._download(f"/v1/models/{digest}", file))
        with file.open("rb") as written:
            found = hashlib.file_digest(written, "sha256").hexdigest()
        if found != digest:
            file.unlink()
            raise WrongDigest(f"the model {digest[:12]}... came with other bytes ({found[:12]}...); it was discarded")

    def _download(self, path: str, file: Path) -> None:
        start = file.stat().st_size if file.exists() else 0
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            with self.session.stream(path, headers) as response:
                mode = "ab" if response.status_code == HTTPStatus.PARTIAL_CONTENT else "wb"
                with file.open(mode) as written:
                    for chunk in response.iter_bytes():
                        written.write(chunk)
        except Problem as problem:
            if problem.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise  # else the file was whole already; its digest decides

    # ---

    def _get(self, kind: type[T], path: str) -> T:
        return read(TypeAdapter(kind), self.session.request("GET", path).content)

    def _all(self, kind: type[list[T]], path: str) -> list[T]:
        """A list that comes in pages: each answer's Link header has the next one's address, at the same coordinator.

        It ends with an empty page, or one that was read before, whatever the header says.
        """
        found: list[T] = []
        asked: set[str] = set()
        while path and path not in asked:
            asked.add(path)
            response = self.session.request("GET", path)
            rows = read(TypeAdapter(kind), response.content)
            found += rows
            following = response.links.get("next", {}).get("url", "") if rows else ""
            path = httpx.URL(following).raw_path.decode() if following else ""
        return found

    def _octets(self, path: str, digest: str, what: str) -> bytes:
        data = self.session.request("GET", path).content
        check_digest(data, digest, what)
        return data

    def _send(self, method: str, path: str, what: str, message: Message, study: UUID) -> None:
        self.witness(_leaving(what, message, study))
        self.session.request(method, path, json=message.to_json())

    def _send_round(self, method: str, plan: Plan, path: str, what: str, message: Message) -> None:
        self.witness(replace(_leaving(what, message, plan.study), round=plan.round, attempt=plan.attempt))
        self.session.request(method, f"{_round(plan)}/{path}", json=message.to_json())


def _known(roster: Roster | None) -> dict[str, str]:
    return {"known": roster.digest} if roster is not None else {}


def _leaving(what: str, message: Message, study: UUID) -> Leaving:
    data = message.encode()
    return Leaving(what, len(data), sha256(data), study)


def _round(plan: Plan) -> str:
    return f"/v1/studies/{plan.study}/rounds/{plan.round}/{plan.attempt}"
