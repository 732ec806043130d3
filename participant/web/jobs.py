"""Cases that are being looked at, one after the other in a thread of their own, and what came of the last few."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from participant.diagnosis.case import Case, Steps
from participant.policy import Refused
from participant.web.faults import note

State = Literal["waiting", "working", "done", "failed"]

_WAITING: Final = 4  # cases in the line
_KEPT: Final = 6  # results in memory: a thin-sliced CT takes some 200 MB
_LOOK_EVERY: Final = 15.0  # seconds between looks for results that are too old


class Work(Protocol):
    """What is to be done for a case, once at most. Files that wait for it go with the call, or with `discard`."""

    def __call__(self, steps: Steps) -> Case: ...
    def discard(self) -> None: ...


class _Forgotten(Exception):
    """Whoever asked does not want to know any more."""


@dataclass(eq=False)
class Job:
    """One case. key: whoever knows it may look. words: why it failed. ended: by the clock. over: set then."""

    work: Work | None
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = "waiting"
    what: str = "Waiting for the case before"
    done: int = 0
    total: int = 1
    case: Case | None = None
    words: str = ""
    ended: float | None = None
    forgotten: bool = False
    over: threading.Event = field(default_factory=threading.Event)


class Jobs:
    """lifetime: seconds for which a result is kept; None for as long as it is among the last few."""

    def __init__(self, clock: Callable[[], float], lifetime: float | None = None) -> None:
        self._clock, self._lifetime = clock, lifetime
        self._jobs: dict[str, Job] = {}
        self._line: queue.Queue[Job | None] = queue.Queue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="diagnosis", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Forget everything, and wait until nothing is looked at any more."""
        for key in list(self._jobs):
            self.forget(key)
        self._line.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, work: Work) -> Job:
        """Have a case looked at.

        Raises:
            Refused: too many are in the line; this one is discarded.
        """
        job = Job(work)
        with self._lock:
            waiting = sum(each.state in ("waiting", "working") for each in self._jobs.values())
            if waiting <= _WAITING:
                self._jobs[job.key] = job
        if waiting > _WAITING:
            work.discard()
            raise Refused("busy", "several cases are waiting already: try again in a few minutes")
        self._line.put(job)
        return job

    def get(self, key: str) -> Job | None:
        """A job that is under way, or whose result is still here."""
        self._drop_old()
        return self._jobs.get(key)

    def forget(self, key: str) -> None:
        """Drop a case with all that is known of it; one that is being looked at ends at its next step."""
        with self._lock:
            job = self._jobs.pop(key, None)
            if job is None:
                return
            job.forgotten, job.case = True, None
            work, job.work = job.work, None
        if work is not None:
            work.discard()

    def _run(self) -> None:
        while True:
            try:
                job = self._line.get(timeout=_LOOK_EVERY)
            except queue.Empty:
                self._drop_old()
                continue
            if job is None:
                return
            self._do(job)
            self._drop_old()

    def _do(self, job: Job) -> None:
        with self._lock:
            work, job.work = job.work, None
        if work is None:
            return

        def step(what: str, done: int, total: int) -> None:
            if job.forgotten:
                raise _Forgotten
            job.state, job.what, job.done, job.total = "working", what, done, total

        try:
            case = work(step)
            job.case, job.state = (None, "failed") if job.forgotten else (case, "done")
        except _Forgotten:
            return
        except Refused as error:
            job.words, job.state = str(error), "failed"
        except Exception as error:  # one case must not end the page
            note("a case could not be looked at", error)
            job.words, job.state = "this case could not be looked at; the page's terminal says more", "failed"
        job.ended = self._clock()
        job.over.set()

    def _drop_old(self) -> None:
        ended = sorted((j for j in list(self._jobs.values()) if j.ended is not None), key=lambda j: j.ended or 0)
        old = ended[:-_KEPT]
        if self._lifetime is not None:
            before = self._clock() - self._lifetime
            old += [each for each in ended if (each.ended or 0) < before]
        for job in old:
            self.forget(job.key)
