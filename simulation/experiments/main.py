"""An experiment from its description to its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from simulation.experiments.cohort import PANEL, SHEET
from simulation.experiments.describe import Experiment, ScaleName
from simulation.experiments.facts import facts_of
from simulation.experiments.progress import Bars
from simulation.experiments.report.build import report_of
from simulation.experiments.report.data import read_sheet
from simulation.experiments.report.document import Cell, Estimate, Published, Report, Table
from simulation.experiments.report.write import write_report
from simulation.experiments.runner import LOG, Settings, results_of, run_units, sheet_folder, steps_missing
from simulation.processes import terminations_as_interrupts


class UnitsFailed(Exception):
    """Trainings that failed, each with the reason, and the file that says more."""

    def __init__(self, log: Path, failed: Mapping[str, str]) -> None:
        listed = "\n".join(f"  {name}: {words}" for name, words in failed.items())
        super().__init__(
            f"{len(failed)} of the trainings failed; {log} says more. The same command tries them again.\n{listed}"
        )


def run_experiment(experiment: Experiment, settings: Settings, scale: ScaleName, console: Console) -> Path:
    """Train what is not done, print the paper's tables, write the report; returns its page.

    Raises:
        UnitsFailed: some did; the report is of all others.
        Exception: as `run_units`.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    with terminations_as_interrupts(), Bars(console, steps_missing(experiment, settings)) as bars:
        failed = run_units(experiment, settings, bars)
    report = _report(experiment, settings, scale)
    _print_tables(report, console)
    console.print("drawing the report ...")
    page = write_report(report, settings.out / "report")
    if failed:
        raise UnitsFailed(settings.out / LOG, failed)
    return page


def _report(experiment: Experiment, settings: Settings, scale: ScaleName) -> Report:
    sheets = {}
    for arm in experiment.arms:
        sheet = read_sheet(sheet_folder(settings, arm, 1) / SHEET)
        if sheet is not None:
            sheets[arm.data] = sheet
    named = str(settings.data) if settings.data is not None else None
    facts = facts_of(experiment, settings, scale, named)
    return report_of(experiment, results_of(experiment, settings), facts, sheets, settings.drawn / PANEL)


def _print_tables(report: Report, console: Console) -> None:
    """The paper's own tables, which come first."""
    for part in report.sections[0].parts if report.sections else ():
        if isinstance(part, Table):
            console.print(_grid(part))


def _grid(table: Table) -> Grid:
    grid = Grid(title=table.title, title_justify="left", caption=table.note or None, caption_justify="left")
    for name in table.head:
        grid.add_column(name)
    for row in table.rows:
        grid.add_row(*(_text(cell) for cell in row))
    return grid


def _text(cell: Cell) -> str:
    if isinstance(cell, Estimate):
        return f"[bold]{cell.text}[/] {cell.interval}"
    return f"[italic]{cell.text}[/]" if isinstance(cell, Published) else cell
