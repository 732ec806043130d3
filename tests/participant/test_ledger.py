"""The ledger: chained, and honest about torn and changed lines."""

from __future__ import annotations

import json
import multiprocessing
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
