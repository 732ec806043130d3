"""Everything the steps work with: the site's keys, memory and connections, and one study."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from crypto.canonical import digest
from crypto.errors import CryptoError
from crypto.identity import Identity
from crypto.layout import Layout
from crypto.manifest import Refusal, ShareRefusal
from crypto.plan import Plan, Roster
from crypto.privacy import Privacy
from crypto.ring import FftMultiplier, MakeMultiplier
from participant.client import Client
from participant.documents import Study
from participant.keys import Keyring
from participant.ledger import Ledger
from participant.model_store import ModelStore
from participant.opened import OpenedStore
from participant.policy import Policy, Refused
from participant.progress import Advance, Reporter
from participant.record import Record
from participant.sealed import SealedStore
from participant.session import Problem, Unreachable
from participant.terms import RoundTerms

log = logging.getLogger(__name__)

Step = Literal["plan", "ballot", "opening"]


class TrainResult(Protocol):
    """A trained model: all shared values float32 [layout.size], cases it was trained on, seconds, mean loss, and what
    the trainer wants kept at this site, in its own form, if the attempt counts; empty where there is nothing."""

    @property
    def vector(self) -> NDArray[np.float32]: ...
    @property
    def samples(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def loss(self) -> float: ...
    @property
    def state(self) -> bytes: ...


class Trainer(Protocol):
    """Trains and evaluates a study's model on this site's cases; `participant.training.Trainer` does so on images."""

    @property
    def samples(self) -> int:
        """Training cases."""

    def train(self, base: NDArray[np.float32], layout: Layout, terms: RoundTerms, progress: Advance) -> TrainResult:
        """The model after one round here, from `base`, float32 [layout.size]."""

    def evaluate(self, base: NDArray[np.float32], layout: Layout, progress: Advance) -> list[int]:
        """The recipe's counts of `base` on the validation cases, in the order of `layout.counts`."""


TrainerFactory = Callable[[Study], Trainer]


@dataclass(frozen=True)
class Site:
    """What all studies of this site share.

    `bench` is held while something trains: one at a time on this machine. `multiplier` gives what makes RLWE's
    products, on a GPU where there is one.
    """

    me: UUID
    identity: Identity
    client: Client
    record: Record
    ledger: Ledger
    sealed: SealedStore
    opened: OpenedStore
    keyring: Keyring
    models: ModelStore
    policy: Policy
    reporter: Reporter
    timings: Path
    make_trainer: TrainerFactory
    multiplier: Callable[[], MakeMultiplier] = lambda: FftMultiplier
    clock: Callable[[], float] = time.time
    bench: threading.Lock = field(default_factory=threading.Lock)


class Approved(NamedTuple):
    """What came of a look at the study's members, to be used again while nothing of it changes.

    members: all of them. seen: SHA-256 of whom this site approved, and of who left. roster: the approved members.
    all: whether nobody waits for an approval here.
    """

    members: Roster
    seen: str
    roster: Roster | None
    all: bool


class Desk:
    """One study at one site.

    Raises:
        Refused: the study's recipe or layout is not what its digest says.
        Malformed: its layout is none, or what it promises of privacy.
    """

    def __init__(self, site: Site, study: Study) -> None:
        if digest(study.recipe) != study.recipe_digest or digest(study.layout) != study.layout_digest:
            raise Refused("study-inconsistent", f"recipe or layout of the study {study.name} do not have their digests")
        self.site, self.study = site, study
        self.layout, self.privacy = study.layout_value(), Privacy.of(study.recipe)
        self.sent_approval: str | None = None
        self.approved: Approved | None = None
        self._trainer: Trainer | None = None
        self._said: set[str] = set()

    @property
    def known(self) -> Roster | None:
        """The members as they were listed last; the list is long where they are many, and mostly the same."""
        return self.approved.members if self.approved is not None else None

    def trainer(self) -> Trainer:
        """Made when first needed: reading the cases takes a while."""
        if self._trainer is None:
            self._trainer = self.site.make_trainer(self.study)
        return self._trainer

    def say(self, words: str, level: int = logging.INFO) -> None:
        log.log(level, "%s: %s", self.study.name, words)

    def say_once(self, words: str, level: int = logging.INFO) -> None:
        """For what holds on many looks at the task."""
        if words not in self._said:
            self._said.add(words)
            self.say(words, level)

    def note(self, event: str, plan: Plan | None = None, **fields: object) -> None:
        """One line in the ledger about this study."""
        place = {} if plan is None else {"round": plan.round, "attempt": plan.attempt}
        self.site.ledger.append(event, study=str(self.study.id), **place, **fields)

    def note_once(self, subject: str, event: str, plan: Plan | None = None, /, **fields: object) -> None:
        """A line in the ledger for what holds on many looks; a crash may double it, never lose it."""
        if not self.site.record.refused(subject, event):
            self.note(event, plan, **fields)
            self.site.record.keep_refusal(subject, event)

    def refuse(
        self,
        error: Refused | CryptoError,
        about: str,
        step: Step | None = None,
        plan: Plan | None = None,
        senders: tuple[UUID, ...] = (),
    ) -> None:
        """Say no, once: on the terminal, in the ledger, and to the coordinator when it is about a plan or a ballot.

        Args:
            about: digest of what is refused.
            senders: contributors whose shares are refused.
        """
        code, words = code_of(error), str(error)[:500]
        if self.site.record.refused(about, code):
            return
        self.say(f"refused ({code}): {words}", logging.WARNING)
        self.note("refusal", plan, code=code, words=words, about=about)
        self.site.record.keep_refusal(about, code)  # after the ledger has it: a crash may double the line, not lose it
        if plan is None or step is None:
            return
        sign, client, me = self.site.identity.sign, self.site.client, self.site.me
        try:
            if senders:
                client.refuse_shares(plan, sign(ShareRefusal(ballot=about, site=me, senders=senders)))
            else:
                client.refuse(plan, sign(Refusal(site=me, step=step, about=about, code=code, words=words)))
        except (Problem, Unreachable) as problem:
            self.say(f"the coordinator did not take the refusal: {problem}", logging.WARNING)


def code_of(error: Refused | CryptoError) -> str:
    """What programs tell refusals apart by: a policy's code, or the error's name as in `crypto.errors`."""
    if isinstance(error, Refused):
        return error.code
    return re.sub("(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()
