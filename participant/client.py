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
from crypto.manifest import Ballot, Manifest, Opening, Refusal, Vote
from crypto.plan import Plan, Roster
from crypto.wire import Message, Signed
from participant.documents import Delivered, Enrolment, EpochState, RoundRow, ServerStatus, Study, Task, read
from participant.session import Pause, Problem, Session

LONGEST_WAIT: Final = 25.0  # seconds a coordinator holds a long-poll
_TIMEOUT: Final = httpx.Timeout(60.0, connect=15.0)
_SLACK: Final = 20.0  # seconds beyond a long-poll until the connection counts as dead

T = TypeVar("T")


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
        return self._get(list[Study], "/v1/studies")

    def study(self, study: UUID) -> Study:
        return self._get(Study, f"/v1/studies/{study}")

    def join(self, study: UUID) -> None:
        self.session.request("PUT", f"/v1/studies/{study}/membership")

    def leave(self, study: UUID) -> None:
        self.session.request("DELETE", f"/v1/studies/{study}/membership")

    def roster(self, study: UUID) -> Roster:
        """The active members: candidates for the next plan."""
        return self._get(Roster, f"/v1/studies/{study}/roster")

    def approve(self, approval: Signed[Approval]) -> None:
        study = approval.message.study
        self._send("PUT", f"/v1/studies/{study}/approval", "approval", approval, study)

    def task(self, study: UUID, cursor: str | None, wait: float) -> Task:
        """What the study asks of this site now; with the last answer's cursor, news within `wait` seconds."""
        params = {"wait": f"{wait:g}"} if cursor is None else {"cursor": cursor, "wait": f"{wait:g}"}
        response = self.session.request("GET", f"/v1/studies/{study}/task", params=params, timeout=wait + _SLACK)
        return read(TypeAdapter(Task), response.content)

    def rounds(self, study: UUID) -> list[RoundRow]:
        return self._get(list[RoundRow], f"/v1/studies/{study}/rounds")

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
        """Upload one body part (`kind` "parts") or key part ("key-parts"). Again with the same bytes is harmless."""
        hashed = hashlib.sha256(data)
        what = {"parts": "part", "key-parts": "key-part"}[kind]
        self.witness(Leaving(what, len(data), hashed.hexdigest(), plan.study, plan.round, plan.attempt))
        announced = f"sha-256=:{base64.b64encode(hashed.digest()).decode()}:"
        self.session.request(
            "PUT", f"{_round(plan)}/{kind}/{number}", content=data, headers={"Content-Digest": announced}
        )

    def put_manifest(self, plan: Plan, manifest: Signed[Manifest]) -> None:
        self._send_round("PUT", plan, "manifest", "manifest", manifest)

    def ballot(self, plan: Plan) -> Ballot:
        return self._get(Ballot, f"{_round(plan)}/ballot")

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

    def open(self, plan: Plan, opening: Signed[Opening]) -> None:
        self._send_round("PUT", plan, "opening", "opening", opening)

    def refuse(self, plan: Plan, refusal: Signed[Refusal]) -> None:
        self._send_round("POST", plan, "refusal", "refusal", refusal)

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


def _leaving(what: str, message: Message, study: UUID) -> Leaving:
    data = message.encode()
    return Leaving(what, len(data), sha256(data), study)


def _round(plan: Plan) -> str:
    return f"/v1/studies/{plan.study}/rounds/{plan.round}/{plan.attempt}"
