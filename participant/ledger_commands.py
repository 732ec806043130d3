"""`pleura-participant ledger`: what left this site and what it refused, for its engineer and its security officer."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer

from participant.ledger import Entry, Ledger
from participant.terminal import HomeOption, end, explained, home_of, line

app = typer.Typer(
    help="What left this site, and what it refused.",
    invoke_without_command=True,
    pretty_exceptions_show_locals=False,
)

COLUMNS: Final = (
    *("number", "time", "event", "what", "bytes", "sha256", "study", "round", "attempt", "to", "code", "words"),
    *("more", "hash"),
)
_NAMED: Final = {"seq": "number", "coordinator": "to"}  # columns that people read under another name
_UNSHOWN: Final = ("previous",)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute, and a coordinator may have named


@app.callback()
def ledger(context: typer.Context, home: HomeOption = None) -> None:
    """What left this site, and what it refused: every line."""
    context.obj = home or context.obj
    if context.invoked_subcommand is not None:
        return
    with explained():
        for entry in Ledger(home_of(context, home).ledger).entries():
            line(json.dumps({key: value for key, value in entry.items() if key not in ("hash", "previous")}))


@app.command()
def verify(context: typer.Context, home: HomeOption = None) -> None:
    """Check the chain. The head stands for all of it: note it elsewhere to see later that no lines were cut off."""
    with explained():
        book = Ledger(home_of(context, home).ledger)
        also = " Behind them a line that a crash cut off; what it was to tell of has not left." if book.torn() else ""
        line(f"{book.verify()} lines, sound. Head: {book.head()}{also}")


@app.command()
def export(
    context: typer.Context,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table: one line an entry.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, each entry with its hash.")] = False,
    file: Annotated[Path | None, typer.Option("--out", help="Where to; the terminal unless given.")] = None,
    home: HomeOption = None,
) -> None:
    """The whole ledger for the security officer, checked before anything is written."""
    if as_csv == as_json:
        end("Say either --csv or --json.")
    with explained():
        entries = list(Ledger(home_of(context, home).ledger).entries())
        with nullcontext(sys.stdout) if file is None else file.open("x", encoding="utf-8", newline="") as to:
            _write_csv(entries, to) if as_csv else _write_json(entries, to)
    if file is not None:
        line(f"{file}: {len(entries)} entries")


def _write_json(entries: Iterable[Entry], to: TextIO) -> None:
    json.dump(list(entries), to, indent=1)
    to.write("\n")


def _write_csv(entries: Iterable[Entry], to: TextIO) -> None:
    table = csv.DictWriter(to, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    for entry in entries:
        table.writerow({name: _harmless(value) for name, value in _row(entry).items()})


def _row(entry: Entry) -> dict[str, object]:
    row: dict[str, object] = {_NAMED.get(key, key): value for key, value in entry.items() if key not in _UNSHOWN}
    row["time"] = datetime.fromtimestamp(entry["time"], UTC).isoformat(timespec="seconds")
    more = {key: row.pop(key) for key in [*row] if key not in COLUMNS}
    return row | ({"more": json.dumps(more)} if more else {})


def _harmless(value: object) -> object:
    """Text that a spreadsheet takes for text, whoever wrote it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
