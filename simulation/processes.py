"""The processes of a federation on one machine: started with a log each, watched, and stopped together."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

LAST_LINES = 20
GRACE_SECONDS = 10.0  # between asking a process to end and ending it


class ProcessFailed(Exception):
    """A process that ended when it should not have; the message holds the last lines of its log."""

    def __init__(self, name: str, what: str, log: Path) -> None:
        self.name = name
        self.log = log
        super().__init__(f"{name} {what}. The end of {log}:\n{last_lines(log)}")


class Processes:
    """Starts programs with their output in `folder`/NAME.log. Leaving the context ends those that still run.

    Each gets a session of its own, so that Ctrl-C reaches this process alone, which then ends them in order.
    `environment` is laid over this process's own.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._may_end: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def run(self, name: str, command: Sequence[str]) -> str:
        """Run a program to its end and return what it wrote to its standard output.

        Only standard error goes to the log: an answer may be a secret, such as an invitation.

        Raises:
            ProcessFailed: it ended with another code than 0.
        """
        with self.log(name).open("ab") as log:
            _head(log.fileno(), command)
            done = subprocess.run(
                list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                env=self._environment, check=False,
            )  # fmt: skip
        if done.returncode:
            raise ProcessFailed(name, _ending(done.returncode), self.log(name))
        return done.stdout.decode()

    def start(self, name: str, command: Sequence[str], *, may_end: bool = False) -> int:
        """Start a program under a name and leave it running; returns its process id.

        `may_end`: it is no failure when it ends, with code 0, before it is stopped.
        """
        self._may_end.discard(name)
        with self.log(name).open("ab") as log:
            _head(log.fileno(), command)
            self._running[name] = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=self._environment, start_new_session=True,
            )  # fmt: skip
        if may_end:
            self._may_end.add(name)
        return self._running[name].pid

    def check(self) -> None:
        """Nothing, while no process has failed.

        Raises:
            ProcessFailed: naming the first that did.
        """
        for name, process in self._running.items():
            if process.poll() or (process.returncode == 0 and name not in self._may_end):
                raise ProcessFailed(name, _ending(process.returncode), self.log(name))

    def runs(self, name: str) -> bool:
        """Whether the process of this name has not ended."""
        return name in self._running and self._running[name].poll() is None

    def release(self, name: str) -> subprocess.Popen[bytes]:
        """Let go of a process: it outlives this object."""
        return self._running.pop(name)

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float, interval: float = 0.2) -> None:
        """Wait until the condition holds, with an eye on the processes.

        Raises:
            ProcessFailed: one of them failed meanwhile.
            TimeoutError: it does not hold after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not happen within {seconds:.0f} s; the logs in {self.folder} say more")
            time.sleep(interval)

    def kill(self, name: str) -> None:
        """End one process at once (SIGKILL), as a power cut would."""
        process = self._running.pop(name)
        _signal_group(process, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End whatever still runs, the latest started first, and wait for it."""
        deadline = time.monotonic() + GRACE_SECONDS
        for process in reversed(self._running.values()):
            _signal_group(process, signal.SIGTERM)
        for process in reversed(self._running.values()):
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)
                process.wait()
        self._running.clear()


def program(name: str) -> str:
    """The path of one of our programs in this environment, whether or not it is on the PATH.

    Raises:
        FileNotFoundError: Pleura is not installed in the environment that runs this.
    """
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}: install Pleura into this environment (pip install -e .[simulation])"
        )
    return str(path)


def free_port() -> int:
    """A TCP port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def last_lines(log: Path, count: int = LAST_LINES) -> str:
    """The end of a log, without the lines that name the commands."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(line for line in lines[-count:] if not line.startswith("$ ")) or "(it is empty)"


@contextlib.contextmanager
def terminations_as_interrupts() -> Iterator[None]:
    """Within it SIGTERM does what Ctrl-C does, and SIGINT too where a script started us with it ignored."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    former = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _head(log: int, command: Sequence[str]) -> None:
    """The program's name in its log; not its arguments, as one may be an invitation."""
    os.write(log, f"$ {shlex.quote(command[0])}\n".encode())


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """To the process and what it started; its process group has its own id."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
