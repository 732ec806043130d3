"""A report as text, for a terminal."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from participant.data.cases import SPLITS
from participant.data.checks.report import CaseNote, Finding, Report

_SHOWN: Final = 5  # cases of a finding; the page has all
_SIGNS: Final = {"error": ("✕ put right", "bold red"), "warning": ("! warning", "yellow"), "note": ("· note", "dim")}


def show(report: Report, console: Console) -> None:
    """Who is there, every finding with what to do, and whether a training could begin."""
    console.print(_counts(report))
    for finding in report.findings:
        _show(finding, console)
    errors, warnings = len(report.of("error")), len(report.of("warning"))
    if report.can_train:
        console.print(Text(f"Training can begin; {warnings} warnings.", style="green"))
    else:
        console.print(Text(f"Training cannot begin: {errors} to put right; {warnings} warnings.", style="bold red"))


def _counts(report: Report) -> Table:
    table = Table("class", *SPLITS, title=f"{report.data} for {report.recipe}: cases (patients)", title_justify="left")
    for each in report.counts:
        table.add_row(each.label, *(f"{each.cases[split]} ({each.patients[split]})" for split in SPLITS))
    return table


def _show(finding: Finding, console: Console) -> None:
    sign, style = _SIGNS[finding.severity]
    console.print(Text.assemble((sign, style), "  ", (finding.what, "bold")))
    lines = [finding.why, f"What to do: {finding.fix}", *map(_case, finding.cases[:_SHOWN])]
    if len(finding.cases) > _SHOWN:
        lines.append(f"- and {len(finding.cases) - _SHOWN} more, in the report")
    console.print(Padding(Text("\n".join(lines)), (0, 0, 1, 3)))


def _case(note: CaseNote) -> str:
    return "- " + ": ".join(filter(None, [note.case, note.note]))
