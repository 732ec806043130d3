"""The ledger: chained, and honest about torn and changed lines."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from participant.ledger import Ledger, LedgerBroken


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    book = Ledger(tmp_path / "ledger.jsonl", clock=lambda: 1000.5)
    book.append("sent", what="part", bytes=4194304, sha256="a" * 64, study=None)
    book.append("refusal", code="plan-old", words="too late")
    book.append("sent", what="manifest", bytes=512, sha256="b" * 64)
    return book


def lines(tmp_path: Path) -> list[str]:
    return (tmp_path / "ledger.jsonl").read_text().splitlines()


def test_lines_are_chained_and_readable(ledger: Ledger, tmp_path: Path) -> None:
    entries = list(ledger.entries())
    assert [entry["seq"] for entry in entries] == [1, 2, 3]
    assert entries[1]["previous"] == entries[0]["hash"]
    assert ledger.head() == entries[2]["hash"]
    assert "study" not in entries[0]
    assert entries[0]["time"] == 1000.5
    assert (tmp_path / "ledger.jsonl").stat().st_mode & 0o777 == 0o600


def test_an_empty_ledger_is_sound(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "none.jsonl").verify() == 0


def test_a_changed_line_is_named(ledger: Ledger, tmp_path: Path) -> None:
    changed = [line.replace("too late", "accepted") for line in lines(tmp_path)]
    (tmp_path / "ledger.jsonl").write_text("\n".join(changed) + "\n")
    with pytest.raises(LedgerBroken, match="line 2") as caught:
        ledger.verify()
    assert caught.value.line == 2


@pytest.mark.parametrize("kept", [[0, 2], [1, 2], [0, 2, 1]])
def test_removed_or_moved_lines_are_noticed(ledger: Ledger, tmp_path: Path, kept: list[int]) -> None:
    all_lines = lines(tmp_path)
    (tmp_path / "ledger.jsonl").write_text("".join(all_lines[number] + "\n" for number in kept))
    with pytest.raises(LedgerBroken):
        ledger.verify()


def test_a_torn_last_line_is_set_aside_and_said(ledger: Ledger, tmp_path: Path) -> None:
    with (tmp_path / "ledger.jsonl").open("a") as file:
        file.write('{"seq": 4, "event": "sen')
    ledger.append("sent", what="vote", bytes=100, sha256="c" * 64)
    entries = list(ledger.entries())
    assert [entry["event"] for entry in entries[-2:]] == ["repaired", "sent"]
    (aside,) = tmp_path.glob("ledger.jsonl.torn-*")
    assert aside.read_text() == '{"seq": 4, "event": "sen'
    assert aside.name in entries[-2]["words"]


def test_a_torn_last_line_breaks_nothing_before_it_is_set_aside(ledger: Ledger, tmp_path: Path) -> None:
    head = ledger.head()
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(b'{"seq": 4, "event": "sen')
    assert ledger.torn()
    assert (ledger.verify(), ledger.head()) == (3, head)


def test_a_disk_that_takes_a_part_is_asked_for_the_rest(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, bytes(data)[:10]))
    ledger.append("sent", what="vote")
    assert ledger.verify() == 4


def test_what_a_full_disk_refuses_is_not_taken_for_written(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, room = os.write, [100]

    def write(descriptor: int, data: bytes) -> int:
        if not room:
            raise OSError(28, "No space left on device")
        return whole(descriptor, data[: room.pop()])

    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space"):
            ledger.append("sent", what="part")
    assert (ledger.verify(), ledger.torn()) == (3, True)
    ledger.append("sent", what="part")
    assert [entry["event"] for entry in ledger.entries()][3:] == ["repaired", "sent"]


_APPENDING = """
import sys
from pathlib import Path
from participant.ledger import Ledger
book = Ledger(Path(sys.argv[1]))
while True:
    book.append("sent", what="part", words="x" * 400)
    print("written", flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_was_told_is_written(tmp_path: Path) -> None:
    """kill -9 while lines are written, again and again: what `append` returned for is there, and the chain holds."""
    file, told = tmp_path / "ledger.jsonl", 0
    for lines_before in (1, 7, 30):
        command = [sys.executable, "-c", _APPENDING, str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(lines_before):
                writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            told += lines_before + len(writer.stdout.readlines())
        book = Ledger(file)
        assert sum(entry["event"] == "sent" for entry in book.entries()) >= told
        told = sum(entry["event"] == "sent" for entry in book.entries())
    book.append("sent", what="last")
    assert list(book.entries())[-1]["what"] == "last"


def test_a_ledger_longer_than_its_tail_goes_on(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.jsonl")
    for number in range(400):
        book.append("sent", what="x" * 300, number=number)
    assert (tmp_path / "ledger.jsonl").stat().st_size > 65536 * 2
    assert book.verify() == 400


def append_many(path: Path) -> None:
    book = Ledger(path)
    for number in range(50):
        book.append("sent", number=number)


def test_two_processes_keep_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append_many, args=(tmp_path / "ledger.jsonl",)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert Ledger(tmp_path / "ledger.jsonl").verify() == 100
    assert all(json.loads(line)["event"] == "sent" for line in lines(tmp_path))
