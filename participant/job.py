"""One contribution in the making, beside the loop that keeps answering the coordinator."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from crypto.plan import Plan, Roster

log = logging.getLogger(__name__)


class Cancelled(Exception):
    """The work is not wanted any more: the round closed, or the agent stops."""


class Job:
    """Work on one plan that can be called off between any two steps.

    Args:
        work: is given the job; calls `check` often and waits with `pause` only.
    """

    def __init__(self, plan: Plan, roster: Roster, work: Callable[[Job], None]) -> None:
        self.plan, self.roster = plan, roster
        self._work = work
        self._cancelled = threading.Event()
        self._starting = threading.Lock()  # between being called off and being started one comes first
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run in a thread of its own. It never keeps the process from ending: a killed job resumes."""
        with self._starting:
            if not self._cancelled.is_set():
                thread = threading.Thread(target=self.run, name=f"round-{self.plan.round}", daemon=True)
                thread.start()
                self._thread = thread

    def run(self) -> None:
        """Run here. What fails after it was called off concerns nobody: a stopping agent closes what it works with."""
        try:
            self._work(self)
        except Exception:
            if not self._cancelled.is_set():
                raise
            log.debug("round %d was cut off", self.plan.round, exc_info=True)

    @property
    def called_off(self) -> bool:
        return self._cancelled.is_set()

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def cancel(self) -> None:
        with self._starting:
            self._cancelled.set()

    def wait(self, seconds: float) -> None:
        """Wait until it ended, but no longer than that."""
        if self._thread is not None:
            self._thread.join(seconds)

    def check(self) -> None:
        """Raise if the work was called off.

        Raises:
            Cancelled: it was.
        """
        if self._cancelled.is_set():
            raise Cancelled

    def pause(self, seconds: float) -> None:
        """Wait, unless the work is called off meanwhile.

        Raises:
            Cancelled: it was.
        """
        if self._cancelled.wait(seconds):
            raise Cancelled

    def hold(self, lock: threading.Lock) -> None:
        """Take a lock; whoever called releases it.

        Raises:
            Cancelled: the work was called off while waiting.
        """
        while not lock.acquire(timeout=0.2):
            self.check()
