"""A loop in a thread of its own, beside the requests."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Worker(ABC):
    """`run` goes on until `stop` is called, which it sees in `_stop`.

    Args:
        grace: seconds that `stop` waits for it; None: until it has ended.
    """

    def __init__(self, name: str, grace: float | None = None) -> None:
        self._name, self._grace = name, grace
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run in a thread of its own."""
        self._stop.clear()
        self._thread = threading.Thread(target=self.run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let what is at hand end, or break off, and wait for it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(self._grace)
            self._thread = None

    @abstractmethod
    def run(self) -> None:
        """Work until told to stop; an error is logged, never fatal."""
