"""The agent: one loop a study, led by the coordinator's task, that can be killed at any moment and goes on."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

from crypto.canonical import sha256
from crypto.errors import CryptoError, Malformed
from crypto.plan import Plan, Roster
from participant.client import LONGEST_WAIT
from participant.documents import Task
from participant.job import Job
from participant.locks import lock
from participant.policy import Refused
from participant.session import Patience, Problem, Unreachable
from participant.steps.ballots import tend_ballot
from participant.steps.contribute import accept, contribute
from participant.steps.desk import Desk, Site, code_of
from participant.steps.endings import tend_endings
from participant.steps.epochs import drop_keys, drop_old_keys, tend_key
from participant.steps.hours import may_train
from participant.steps.members import Outcomes
from participant.steps.membership import OVER, join
from participant.steps.peers import tend_peers
from participant.steps.sealed_models import SealedModels
from participant.steps.spot_checks import check_base, tend_spot_checks
from participant.updates import UpdateNotice

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 5.0  # seconds between looks for a first study, and for what a person approved here meanwhile
STUDIES_EVERY: Final = 30.0  # seconds between looks for another study: they are rare, and agents may be many
_AFTER_PROBLEM: Final = Patience(first=1.0)  # until a study is tried again after something unforeseen
_GRACE: Final = 3.0  # seconds a stopping agent waits for its threads; whatever is cut off resumes

Until = Literal["stopped", "finished", "once"]


class Stopping(Exception):
    """The agent was asked to end."""


class StudyLoop:
    """One study. `look` does everything that its task asks at one moment.

    Args:
        inline: contributions are made within `look`, not beside it.
    """

    def __init__(self, desk: Desk, *, inline: bool = False) -> None:
        self.desk = desk
        self.over = False
        self._inline = inline
        self._cursor: str | None = None
        self._job: Job | None = None
        self._stopped = threading.Event()
        self._done: set[str] = set()
        self._outcomes, self._models = Outcomes(desk), SealedModels(desk)

    def look(self, wait: float = 0.0) -> None:
        """Ask for the task, waiting up to `wait` seconds for news, and do what it asks.

        Raises:
            Problem, Unreachable, Malformed: from the coordinator.
        """
        site, study = self.desk.site, self.desk.study.id
        if site.record.has_left(study):
            self._call_off(None)
            drop_keys(site, study)  # one may have been given to this site while a person had it leave
            self.over = True
            return
        task = site.client.task(study, self._cursor, wait, self.desk.known)
        if site.record.skip_if_lost(study, task.plan):
            self.desk.note("memory-lost", task.plan)
            self.desk.say("this site's record was lost: it sits out the attempt under way", logging.WARNING)
        self._call_off(task.plan.digest if task.plan is not None else None)  # before what it works with is deleted
        tend_endings(self.desk, task.last)
        tend_spot_checks(self.desk, task.last)
        drop_old_keys(self.desk, task)
        if task.study_state not in OVER:
            self._tend_members(task)
        self._tend_round(task)
        self._cursor = task.cursor
        self.over = task.study_state in OVER and task.plan is None

    @property
    def patience(self) -> float:
        """Seconds to wait for the coordinator's news: an approval made here, which it cannot know of, is none."""
        approved = self.desk.approved
        return LONGEST_WAIT if approved is None or approved.all else LOOK_EVERY

    def stop(self) -> None:
        """Call off what is in the making, and what a look that is under way would begin."""
        self._stopped.set()
        if (job := self._job) is not None:
            job.cancel()
            job.wait(_GRACE)

    def _tend_members(self, task: Task) -> None:
        approved = tend_peers(self.desk, task.members)
        if approved is not None and self.desk.study.scheme != "lwe-shamir":  # which has no key to keep
            tend_key(self.desk, task.epoch, approved)
        if approved is not None:
            self._models.tend(task, approved)

    def _tend_round(self, task: Task) -> None:
        plan, roster = task.plan, task.roster
        if plan is None or roster is None or not check_base(self.desk, plan) or not accept(self.desk, plan, roster):
            self._call_off(None)
            return
        if task.phase == "collecting":
            self._tend_contribution(task, plan, roster)
        else:
            self._call_off(None)
        if task.phase == "opening":
            ballot = tend_ballot(self.desk, task, plan, roster)
            if ballot is not None:
                self._outcomes.tend(task, plan, roster, ballot)

    def _tend_contribution(self, task: Task, plan: Plan, roster: Roster) -> None:
        """Have a contribution in the making exactly while the plan wants one of this site."""
        site = self.desk.site
        wanted = site.me in plan.expected and not task.contributed and plan.digest not in self._done
        wanted = wanted and may_train(self.desk, plan)
        self._call_off(plan.digest if wanted else None)
        if not wanted or self._job is not None:
            return
        if plan.epoch is not None and not site.keyring.holds(plan.study, plan.epoch):
            words = f"round {plan.round}: waiting for the study's key; the plan names one that this site was not given"
            self.desk.say_once(words, logging.WARNING)
            return
        if plan.release == "members" and not self._models.ready(plan.base_model):
            self.desk.say_once(f"round {plan.round}: waiting for a member to pass on the base model")
            return
        self._job = Job(plan, roster, self._work)
        if self._stopped.is_set():
            self._job.cancel()
        self._job.run() if self._inline else self._job.start()

    def _work(self, job: Job) -> None:
        with suppress(Stopping):
            contribute(self.desk, job.plan, job.roster, job)
            self._done.add(job.plan.digest)

    def _call_off(self, wanted: str | None) -> None:
        """Cancel the job unless it is for the wanted plan."""
        if self._job is not None and self._job.plan.digest != wanted:
            self._job.cancel()
            self._job = None


class Agent:
    """All studies of a site. `stop` may be called from a signal handler."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._loops: dict[UUID, StudyLoop] = {}
        self._threads: list[threading.Thread] = []
        self._updates = UpdateNotice()

    def stop(self) -> None:
        self._stop.set()

    def pause(self, seconds: float) -> None:
        """Wait, unless the agent is to end. Give this to the client, which waits with it between tries.

        Raises:
            Stopping: it is to end.
        """
        if self._stop.wait(seconds):
            raise Stopping

    def run(self, site: Site, until: Until = "stopped") -> None:
        """Follow every study that the policy allows, until stopped, until all ended, or once around."""
        log.info("site %s runs; its words are %s", site.me, site.identity.public.words)
        try:
            while True:
                self._updates.look(site.client)
                for loop in self._new_loops(site, inline=until == "once"):
                    self._once(loop) if until == "once" else self._start(loop)
                if until == "once" or self._rest(until):
                    return
        except Stopping:
            log.info("stopping; whatever is under way resumes at the next start")
        finally:
            self._wind_down()

    def _rest(self, until: Until) -> bool:
        """Pause until it is time to look for studies again; whether all studies have finished that were to be."""
        rested = 0.0
        while rested < (STUDIES_EVERY if self._loops else LOOK_EVERY):
            if until == "finished" and self._loops and all(loop.over for loop in self._loops.values()):
                return True
            self.pause(1.0)
            rested += 1.0
        return False

    def _new_loops(self, site: Site, *, inline: bool) -> Iterator[StudyLoop]:
        """A loop for each study met for the first time that this site is, or becomes, a member of."""
        try:
            studies = site.client.studies()
        except (Problem, Malformed) as error:
            log.warning("the studies cannot be listed: %s", error)
            return
        for study in studies:
            if study.id not in self._loops:
                try:
                    desk = join(site, study)
                except Problem as problem:
                    log.warning("not joining %s: %s", study.name, problem)
                    continue
                if desk is not None:
                    self._loops[study.id] = StudyLoop(desk, inline=inline)
                    yield self._loops[study.id]

    def _start(self, loop: StudyLoop) -> None:
        thread = threading.Thread(target=self._follow, args=(loop,), name=loop.desk.study.name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _follow(self, loop: StudyLoop) -> None:
        """Look again and again, less often while it goes wrong. Nothing but the agent's end ends the loop before."""
        failures = 0
        while not loop.over and not self._stop.is_set():
            try:
                loop.look(loop.patience)
                failures = 0
            except Stopping:
                return
            except Exception as error:
                failures += 1
                if not self._stop.is_set():  # else its database and connections are being closed
                    _explain(loop.desk, error)
                self._stop.wait(_AFTER_PROBLEM.delay(failures, None))

    def _once(self, loop: StudyLoop) -> None:
        """Two looks: what the first one did (a key dealt, an approval sent) may let the second one do more."""
        for _ in range(2):
            loop.look()

    def _wind_down(self) -> None:
        self._stop.set()
        for loop in self._loops.values():
            loop.stop()
        for thread in self._threads:
            thread.join(_GRACE)


@contextmanager
def only_one(file: Path) -> Iterator[None]:
    """Hold the home folder: two agents on it would contribute twice.

    Raises:
        Refused: another agent runs on it.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            lock(descriptor, wait=False)
        except BlockingIOError:
            raise Refused("already-running", f"an agent already runs on {file.parent}") from None
        yield
    finally:
        os.close(descriptor)


def _explain(desk: Desk, error: Exception) -> None:
    """What a person can act on in words, a defect with its traceback."""
    if isinstance(error, CryptoError | Refused):  # what came is not what may come: once in the ledger
        code, words, about = code_of(error), str(error)[:500], sha256(str(error).encode())
        desk.note_once(about, "refusal", code=code, words=words, about=about)
        desk.say(f"refused ({code}): {words}; trying again", logging.WARNING)
    elif isinstance(error, Problem | Unreachable):
        desk.say(f"{error}; trying again", logging.WARNING)
    else:
        log.error("%s: unforeseen; trying again", desk.study.name, exc_info=error)
