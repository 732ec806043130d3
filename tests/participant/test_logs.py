"""What the agent writes about itself: for a terminal, a journal and a file that does not grow for ever; no secrets."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from participant import logs

log = logging.getLogger("participant.test")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in logs._OURS]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers = []
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in logger.handlers:
            handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_the_file_begins_anew_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FILE_BYTES", 2000)
    monkeypatch.setattr(logs, "_FILES", 2)
    logs.set_up(Console(file=io.StringIO()))
    logs.keep(tmp_path / "logs" / "agent.log")
    for number in range(200):
        log.info("line %03d of a long life", number)
    files = sorted((tmp_path / "logs").iterdir())
    assert [file.name for file in files] == ["agent.log", "agent.log.1", "agent.log.2"]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert "line 199" in files[0].read_text()
    assert (tmp_path / "logs").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "secret",
    [
        "pleura-invitation-abcDEF123",
        "Bearer eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl",
        "http://anna:geheim@proxy.example.org:3128",
    ],
)
def test_secrets_are_cut_out_of_lines_and_tracebacks(secret: str, tmp_path: Path) -> None:
    logs.set_up(Console(file=io.StringIO()))
    logs.keep(tmp_path / "agent.log")
    log.warning("said: %s", secret)
    try:
        int(secret)  # whose error repeats the text
    except ValueError:
        log.exception("failed")
    text = (tmp_path / "agent.log").read_text()
    assert text.count("[hidden]") == 2
    assert not any(word in text for word in ("abcDEF123", "c2lnbmF0dXJl", "geheim"))
    assert "Traceback" in text


def test_a_name_begins_no_line(tmp_path: Path) -> None:
    logs.set_up(Console(file=io.StringIO()))
    logs.keep(tmp_path / "agent.log")
    log.info("%s joined", "St. Mary\n2026-01-01 00:00:00 INFO all is well")
    assert len((tmp_path / "agent.log").read_text().splitlines()) == 1


SPEAK = """
import logging, sys
from rich.console import Console
from participant import logs
logs.set_up(Console(stderr=True))
logging.getLogger("participant.x").warning("the key is late")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("participant.x").exception("failed")
"""


def spoken(tmp_path: Path, *, journal: bool) -> list[str]:
    """What a process says whose standard error is a file, which it is told is the journal's stream or not."""
    with (tmp_path / "stream").open("wb") as stream:
        about = os.fstat(stream.fileno())
        name = f"{about.st_dev}:{about.st_ino}" if journal else "1:1"
        environment = {**os.environ, "JOURNAL_STREAM": name}
        subprocess.run([sys.executable, "-c", SPEAK], stderr=stream, env=environment, check=True)
    return (tmp_path / "stream").read_text().splitlines()


def test_the_journal_is_told_levels(tmp_path: Path) -> None:
    lines = spoken(tmp_path, journal=True)
    assert lines[0] == "<4>the key is late"
    assert all(line.startswith("<3>") for line in lines[1:])
    assert len(lines) > 3, "each line of a traceback has its level"


def test_another_stream_has_times(tmp_path: Path) -> None:
    first, *_ = spoken(tmp_path, journal=False)
    assert first.endswith("WARNING the key is late")
    assert first[:2] == "20"


def test_a_terminal_is_told_words_alone() -> None:
    screen = io.StringIO()
    logs.set_up(Console(file=screen, force_terminal=True, width=100, color_system=None))
    log.info("joined ct-1 at http://anna:geheim@proxy.example.org")
    assert "joined ct-1" in screen.getvalue()
    assert "geheim" not in screen.getvalue()
