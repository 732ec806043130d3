"""The processes of a run: watched, named when they fail, and gone when it ends."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from simulation.processes import Processes, ProcessFailed, last_lines

FOREVER = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_command_answers_on_its_standard_output_and_logs_the_rest(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        code = "import sys; print('secret'); print('said', file=sys.stderr)"
        assert processes.run("tool", [sys.executable, "-c", code]) == "secret\n"
    log = (tmp_path / "tool.log").read_text()
    assert "said" in log
    assert "secret" not in log


def test_a_command_that_fails_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes, pytest.raises(ProcessFailed, match=r"tool ended with code 3[\s\S]*no luck"):
        processes.run("tool", [sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)"])


def test_all_are_gone_after_an_error(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    pids = [processes.start(name, FOREVER) for name in "ab"]
    processes.wait_for("start", lambda: all("up" in processes.log(n).read_text() for n in "ab"), 30, 0.01)
    with pytest.raises(ZeroDivisionError), processes:
        raise ZeroDivisionError
    assert not any(map(alive, pids))


def test_one_that_ignores_a_request_to_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulation.processes.GRACE_SECONDS", 0.2)
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    with Processes(tmp_path) as processes:
        pid = processes.start("deaf", [sys.executable, "-c", code])
        processes.wait_for("start", lambda: "up" in processes.log("deaf").read_text(), 30, 0.01)
    assert not alive(pid)


@pytest.mark.parametrize(
    ("code", "may_end", "words"), [(2, True, "code 2"), (2, False, "code 2"), (0, False, "code 0")]
)
def test_waiting_notices_a_process_that_ended(tmp_path: Path, code: int, may_end: bool, words: str) -> None:
    with Processes(tmp_path) as processes:
        processes.start("agent", [sys.executable, "-c", f"import sys; print('oh'); sys.exit({code})"], may_end=may_end)
        with pytest.raises(ProcessFailed, match=rf"agent ended with {words}[\s\S]*oh"):
            processes.wait_for("nothing", lambda: False, 30, 0.01)


def test_one_that_may_end_does(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("agent", [sys.executable, "-c", ""], may_end=True)
        processes.wait_for("its end", lambda: not processes.runs("agent"), 30, 0.01)


def test_a_killed_process_is_told_by_its_signal(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        os.killpg(processes.start("agent", FOREVER), signal.SIGKILL)
        with pytest.raises(ProcessFailed, match="SIGKILL"):
            processes.wait_for("nothing", lambda: False, 30, 0.01)


def test_waiting_ends_at_its_limit(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes, pytest.raises(TimeoutError, match="its start did not happen"):
        processes.wait_for("its start", lambda: False, 0.0, 0.01)


def test_a_released_process_outlives_the_run(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("coordinator", FOREVER)
        released = processes.release("coordinator")
    assert released.poll() is None
    released.kill()
    released.wait()


def test_the_last_lines_of_a_log_leave_out_commands(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert last_lines(log) == "(it is empty)"
    log.write_text("$ program\n" + "\n".join(f"line {n}" for n in range(30)))
    assert last_lines(log, 2) == "line 28\nline 29"
