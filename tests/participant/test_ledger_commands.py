"""`pleura-participant ledger`: shown, verified, and exported for a security officer who opens it in a spreadsheet."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from participant.cli import app
from participant.ledger import Ledger


@pytest.fixture
def home(tmp_path: Path) -> Path:
    book = Ledger(tmp_path / "ledger.jsonl", clock=lambda: 1_790_000_000.5)
    study = "6f1f6a0e-8d0c-4a0e-bb1b-3b7f0f8a2a11"
    book.append("joined", study=study, name="=HYPERLINK(1)")
    book.append("sent", what="part", bytes=4194304, sha256="ab" * 32, study=study, round=2, attempt=1,
                coordinator="https://pleura.example")  # fmt: skip
    book.append("refusal", study=study, code="plan-old", words="-too late, it was said")
    return tmp_path


def run(home: Path, *arguments: str, code: int = 0) -> str:
    found = CliRunner().invoke(app, ["--home", str(home), "ledger", *arguments])
    assert found.exit_code == code, found.output
    return found.output


def test_every_line_is_shown(home: Path) -> None:
    shown = [json.loads(line) for line in run(home).splitlines()]
    assert [line["event"] for line in shown] == ["joined", "sent", "refusal"]
    assert "hash" not in shown[0]


def test_verifying_names_the_first_broken_entry(home: Path) -> None:
    assert f"3 lines, sound. Head: {Ledger(home / 'ledger.jsonl').head()}" in run(home, "verify")
    file = home / "ledger.jsonl"
    file.write_text(file.read_text().replace("4194304", "4194303"))
    assert "line 2 of the ledger was changed" in run(home, "verify", code=1)


def test_verifying_says_what_a_crash_cut_off(home: Path) -> None:
    with (home / "ledger.jsonl").open("a") as file:
        file.write('{"attempt":1,"byt')
    assert "3 lines, sound." in (found := run(home, "verify"))
    assert "a line that a crash cut off" in found


def test_a_table_for_the_security_officer(home: Path) -> None:
    rows = list(csv.DictReader(run(home, "export", "--csv").splitlines()))
    sent = rows[1]
    assert (sent["number"], sent["time"]) == ("2", "2026-09-21T14:13:20+00:00")
    assert (sent["what"], sent["bytes"], sent["sha256"]) == ("part", "4194304", "ab" * 32)
    assert (sent["round"], sent["attempt"], sent["to"]) == ("2", "1", "https://pleura.example")
    assert sent["study"] == "6f1f6a0e-8d0c-4a0e-bb1b-3b7f0f8a2a11"
    assert [row["hash"] for row in rows] == [entry["hash"] for entry in Ledger(home / "ledger.jsonl").entries()]


def test_nothing_in_the_table_is_a_formula(home: Path) -> None:
    rows = list(csv.DictReader(run(home, "export", "--csv").splitlines()))
    assert rows[2]["words"] == "'-too late, it was said"
    assert json.loads(rows[0]["more"]) == {"name": "=HYPERLINK(1)"}
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())


def test_all_of_it_as_json(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "for-the-officer.json"
    assert "3 entries" in run(home, "export", "--json", "--out", str(file))
    assert json.loads(file.read_text()) == list(Ledger(home / "ledger.jsonl").entries())
    assert "exists" in run(home, "export", "--json", "--out", str(file), code=1)  # and is not overwritten


def test_a_broken_ledger_is_not_exported(home: Path, tmp_path: Path) -> None:
    file = home / "ledger.jsonl"
    file.write_text(file.read_text().replace("plan-old", "plan-new"))
    assert "line 3" in run(home, "export", "--csv", "--out", str(tmp_path / "out.csv"), code=1)
    assert not (tmp_path / "out.csv").exists()


def test_one_form_is_chosen(home: Path) -> None:
    assert "either --csv or --json" in run(home, "export", code=1)
    assert "either --csv or --json" in run(home, "export", "--csv", "--json", code=1)
