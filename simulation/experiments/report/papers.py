"""The paper's tables, its own figures in a column beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simulation.experiments.describe import Experiment, Figure, PaperTable
from simulation.experiments.report.document import Cell, Published, Section, Table
from simulation.experiments.report.estimates import NOTHING, Units, estimate, figures

UNITS = {"percent": " (%)", "gain": " (%)", "points": " (percentage points)", "seconds": " (s)"}


def section(experiment: Experiment, units: Units) -> Section:
    words = (
        "Each figure of ours is the mean over the seeds with its 95 % interval (Student's t, as if seeds shared no "
        "cases: it is rather too narrow); the figure in the column beside it is the paper's, copied, and was measured "
        "on its data, not on these."
    )
    return Section("The paper's tables", [words, *(paper_table(table, units) for table in experiment.tables)])


def paper_table(table: PaperTable, units: Units) -> Table:
    """Two columns for each of the paper's: here, and as printed; one where the paper has no figure at all."""
    columns = zip(*(row for _, row in table.rows), strict=True)
    printed = [any(figure is not None and figure.paper for figure in column) for column in columns]
    head = [""]
    for column, both in zip(table.columns, printed, strict=True):
        head.append(column.heading + UNITS.get(column.unit, ""))
        head += ["paper"] if both else []
    rows = [[name, *_cells(table, row, printed, units)] for name, row in table.rows]
    return Table(table.key, f"{table.title} ({table.place})", head, rows, table.note)


def _cells(table: PaperTable, row: Sequence[Figure | None], printed: Sequence[bool], units: Units) -> Iterator[Cell]:
    for column, figure, both in zip(table.columns, row, printed, strict=True):
        yield estimate(figures(units, figure), column.unit, len(units.get(figure.arm, ()))) if figure else NOTHING
        if both:
            yield Published(figure.paper if figure and figure.paper else NOTHING)
