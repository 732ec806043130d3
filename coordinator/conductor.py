"""The loop that moves every study forward: plans attempts, and takes each from step to step under a lease.

What to do is decided in `coordinator.rounds`; here it is done. Killed anywhere, another conductor goes on from what the
database says, once the lease has run out.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from coordinator import adoption, aggregation, logs
from coordinator.aggregation import Beat, PartLost
from coordinator.clock import Clock
from coordinator.contexts import context_of
from coordinator.errors import Busy
from coordinator.monitoring import Monitor
from coordinator.rounds.phases import ended_by
from coordinator.rounds.planning import NotYet, plan_round
from coordinator.rounds.states import View
from coordinator.rounds.steps import (
    Adopt,
    Aggregate,
    AskOpener,
    Close,
    Fail,
    Reveal,
    ShowBallot,
    Step,
    Sweep,
    Wait,
    next_step,
)
from coordinator.store import leases, numbers, rounds
from coordinator.store.blobs import Blobs
from coordinator.store.database import Store
from coordinator.store.leases import Lease, LeaseLost
from coordinator.worker import Worker
from crypto.checks import answer_kind, takes_votes
from crypto.errors import OpeningRefused
from crypto.manifest import Answer
from crypto.plan import Plan
from crypto.schemes import scheme

LEASE_SECONDS: Final = 15.0
TICK_SECONDS: Final = 0.25
TROUBLE_SECONDS: Final = 2.0  # where the database is away or full; its disk is not to fill with what is said of it

log = logging.getLogger(__name__)


T = TypeVar("T")


class Stopping(Exception):
    """Long work breaks off because the process is ending."""


def beating(work: Callable[[], T], beat: Beat) -> T:
    """What `work` returns, done beside the beat: it may take long, where many answers are wrong."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(work)
        while True:
            try:
                return waiting.result(timeout=1.0)
            except TimeoutError:
                if waiting.done():  # it raised a TimeoutError itself
                    raise
                beat()


class Conductor(Worker):
    """One worker. Several, on one database and one blob store, share the rounds.

    Args:
        recent_seconds: a site that was not heard of for longer is not planned with.
        monitor: hears what is done, and that there is life.
    """

    def __init__(
        self, store: Store, blobs: Blobs, clock: Clock, recent_seconds: float = 120.0, monitor: Monitor | None = None
    ) -> None:
        super().__init__("conductor")
        self._store, self._blobs, self._clock, self._recent = store, blobs, clock, recent_seconds
        self._monitor = monitor or Monitor(clock)
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._said: dict[UUID, str] = {}

    def run(self) -> None:
        """Advance until `stop` is called; an error is logged, never fatal."""
        while not self._stop.is_set():
            busy = False
            try:
                busy = self.advance_once()
            except Exception:
                log.exception("the conductor could not look for work; it tries again")
                self._stop.wait(TROUBLE_SECONDS)
            if not busy:
                self._stop.wait(TICK_SECONDS)

    def advance_once(self) -> bool:
        """Take every round as far as it goes now, then plan what can be planned. Whether anything was done."""
        self._monitor.alive()
        now = self._clock.now()
        done = [self._advance(each) for each in self._store.read("find rounds", lambda s: rounds.unfinished(s, now))]
        done += [self._plan(study) for study in self._store.read("find studies", rounds.to_plan)]
        return any(done)

    # --- planning

    def _plan(self, study: UUID) -> bool:
        """Whether an attempt was planned. Why not is logged once."""
        try:
            why_not = self._store.read("look at study", lambda s: self._try_plan(s, study, create=False))
            if why_not is None:
                why_not = self._store.run("plan round", lambda s: self._try_plan(s, study, create=True))
        except Exception as error:
            why_not = f"planning failed: {error!r}"
        if why_not is not None and self._said.get(study) != why_not:
            log.info("study %s: no round yet: %s", study, why_not)
        self._said[study] = why_not or ""
        return why_not is None

    def _try_plan(self, session: Session, study: UUID, *, create: bool) -> str | None:
        """Why there is no plan; None if there is one, which is then stored if `create`."""
        view = rounds.study_view(session, study)
        if view is None:
            return "it is not running, or has an active round"
        planned = plan_round(view, self._clock.now(), self._recent)
        if isinstance(planned, NotYet):
            return planned.reason
        if create:
            rounds.create(session, *planned, self._clock.now())
        return None

    # --- one round, under a lease

    def _advance(self, round_id: UUID) -> bool:
        """Whether anything was tried."""
        with logs.about():
            return self._advance_noted(round_id)

    def _advance_noted(self, round_id: UUID) -> bool:
        lease: Lease | None = None
        try:
            view, step = self._look(round_id)
            logs.note(study=str(view.plan.study), round=str(view.plan.round), attempt=str(view.plan.attempt))
            if isinstance(step, Wait):
                return False
            lease = self._take(round_id)
            if lease is None:
                return False
            while self._step(lease):
                pass
            self._release(lease)
        except LeaseLost as lost:
            self._lost(lost)
        except Stopping:
            if lease is not None:
                self._release(lease)
        except Exception:
            log.exception("round %s: a step failed; it is tried again later", round_id)
            self._put_off(round_id, lease)
        return True

    def _look(self, round_id: UUID) -> tuple[View, Step]:
        view = self._store.read("view round", lambda session: rounds.view(session, round_id))
        return view, next_step(view, self._clock.now())

    def _step(self, lease: Lease) -> bool:
        """Do the next step; False if the round has to wait."""
        if self._stop.is_set():
            raise Stopping
        view, step = self._look(lease.round_id)
        if isinstance(step, Wait):
            return False
        self._do(lease, step)
        log.info("round %s: %s", view.id, step)
        self._measure(lease.round_id, step)
        return True

    def _measure(self, round_id: UUID, step: Step) -> None:
        """The step is done and stays so: where its times cannot be read, they are missing from the numbers."""
        try:
            times = self._store.read("read times", lambda s: numbers.times(s, round_id))
        except Exception as error:
            log.warning("round %s: how long it took is not counted: %r", round_id, error)
            return
        for phase, seconds in ended_by(step, times).items():
            self._monitor.phase(phase, seconds)
        if times.ended is not None and not isinstance(step, Sweep):
            self._monitor.ended("complete" if times.complete else "failed")

    def _do(self, lease: Lease, step: Step) -> None:
        now = self._clock.now()
        match step:
            case Close(contributors):
                self._store.run("close round", lambda s: rounds.close(s, lease, contributors, now))
            case Aggregate():
                self._aggregate(lease)
            case ShowBallot():
                self._store.run("show ballot", lambda s: rounds.show_ballot(s, lease, now))
            case AskOpener(site):
                self._store.run("ask opener", lambda s: rounds.ask_opener(s, lease, site, now))
            case Reveal(openers):
                self._reveal(lease, openers)
            case Adopt(content):
                self._adopt(lease, content)
            case Fail(reason):
                self._store.run("fail round", lambda s: rounds.fail(s, lease, reason, now))
            case Sweep():
                folders = self._store.read("find leftovers", lambda s: rounds.leftovers(s, lease.round_id))
                for folder in folders:
                    self._blobs.delete_prefix(folder)
                self._store.run("sweep round", lambda s: rounds.record_sweep(s, lease, folders, now))

    def _aggregate(self, lease: Lease) -> None:
        work = self._store.read("read ballot", lambda s: rounds.work(s, lease.round_id))
        try:
            public = context_of(self._store, self._blobs, work.plan) if work.plan.scheme == "ckks" else None
            seconds = aggregation.add_up(self._blobs, work, self._beat(lease), public)
        except PartLost as lost:
            self._fail(lease, str(lost))
        else:
            self._store.run("record sums", lambda s: rounds.record_sums(s, lease, seconds))

    def _reveal(self, lease: Lease, openers: Sequence[UUID]) -> None:
        work = self._store.read("read ballot", lambda s: rounds.work(s, lease.round_id))
        lowest = self._store.read("read bounds", lambda s: rounds.lowest_bounds(s, work.plan.study))
        beat = self._beat(lease)
        try:
            answers = (self._answer(lease, site, answer_kind(work.plan)) for site in openers)
            opened = beating(lambda: scheme(work.plan.scheme).combine(work.plan, work.roster, answers), beat)
            revealed = aggregation.reveal(self._blobs, work, opened.values, lowest, beat, opened.body)
        except PartLost as lost:
            self._fail(lease, str(lost))
        except OpeningRefused as refused:
            self._reject(lease, work.plan, openers, str(refused))
        else:
            self._store.run(
                "complete round", lambda s: rounds.complete(s, lease, revealed, opened.wrong, self._clock.now())
            )

    def _adopt(self, lease: Lease, content: str) -> None:
        """The members opened the sum; here their word is all there is of the new model."""
        now = self._clock.now()
        work = self._store.read("read ballot", lambda s: rounds.work(s, lease.round_id))
        shown, outcome = self._store.read("read outcome", lambda s: rounds.outcome(s, lease.round_id, content))
        lowest = self._store.read("read bounds", lambda s: rounds.lowest_bounds(s, work.plan.study))
        adopted = adoption.adopt(work, outcome, lowest, now - shown)
        self._store.run("adopt outcome", lambda s: rounds.adopt(s, lease, adopted, content, now))

    def _answer(self, lease: Lease, site: UUID, kind: type[Answer]) -> Answer:
        return self._store.read("read answer", lambda s: rounds.answer(s, lease.round_id, site, kind))

    def _reject(self, lease: Lease, plan: Plan, openers: Sequence[UUID], reason: str) -> None:
        """One opener's answer was wrong; or some of several were, and with more of them it may show which."""
        now = self._clock.now()
        if takes_votes(plan.scheme):
            self._store.run("reject opening", lambda s: rounds.reject_opening(s, lease, openers[0], reason, now))
        else:
            self._store.run("note trial", lambda s: rounds.note_trial(s, lease, len(openers), reason, now))

    def _fail(self, lease: Lease, reason: str) -> None:
        self._store.run("fail round", lambda s: rounds.fail(s, lease, reason, self._clock.now()))

    def _beat(self, lease: Lease) -> Beat:
        """Called between parts: renews the lease in time, and breaks the work off when the process ends."""
        renewed = float("-inf")

        def beat() -> None:
            nonlocal renewed
            if self._stop.is_set():
                raise Stopping
            self._monitor.alive()
            now = self._clock.now()
            if now - renewed > LEASE_SECONDS / 3:
                self._store.run("renew lease", lambda s: leases.renew(s, lease, now, LEASE_SECONDS))
                renewed = now

        return beat

    # --- leases

    def _take(self, round_id: UUID) -> Lease | None:
        now = self._clock.now()
        lease = self._store.run("take lease", lambda s: leases.take(s, round_id, self._owner, now, LEASE_SECONDS))
        self._monitor.leased("taken" if lease is not None else "held")
        return lease

    def _release(self, lease: Lease) -> None:
        self._store.run("release lease", lambda s: leases.release(s, lease))

    def _put_off(self, round_id: UUID, held: Lease | None) -> None:
        try:
            lease = held or self._take(round_id)
            if lease is not None:
                self._store.run("put round off", lambda s: leases.release_after_error(s, lease, self._clock.now()))
        except LeaseLost as lost:
            self._lost(lost)
        except Busy as busy:
            log.warning("round %s is not put off; the others go on all the same: %s", round_id, busy)

    def _lost(self, lost: LeaseLost) -> None:
        self._monitor.leased("lost")
        log.warning("%s", lost)
