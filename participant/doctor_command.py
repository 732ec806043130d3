"""`pleura-participant doctor`: is everything there that the agent needs, and if not, what to do."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.text import Text

from participant.doctor.findings import Finding
from participant.terminal import HomeOption, home_of, out

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    home: HomeOption = None,
) -> None:
    """Look whether network, clock, disk, GPU, keys, settings and data are as the agent needs them; changes nothing.

    Ends with 1 if anything failed.
    """
    from participant.doctor.examination import examine

    findings = []
    for finding in examine(home_of(context, home)):
        findings.append(finding)
        if not as_json:
            _show(finding)
    levels = Counter(finding.level for finding in findings)
    if as_json:
        typer.echo(json.dumps({"failed": levels["fail"], "findings": [asdict(each) for each in findings]}, indent=2))
    else:
        out.print(f"{levels['ok']} ok, {levels['warn']} to know of, {levels['fail']} to mend", highlight=False)
    if levels["fail"]:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    line = Text.assemble((f"{finding.level:<4}", _STYLES[finding.level]), f"  {finding.check}: {finding.words}")
    if finding.fix:
        line.append(f"\n      -> {finding.fix}")
    out.print(line, soft_wrap=True, highlight=False)
