"""`pleura-simulate data`: what a set holds, on what terms, and how it would be divided among hospitals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from simulation.datasets import Dataset, Table

PANEL = 24  # films in a picture of before and after


def data(
    name: Annotated[str, typer.Argument(help="a set's name under --root, or the path of its folder")],
    root: Annotated[Path | None, typer.Option(help="folder that holds the sets")] = None,
    sites: Annotated[int, typer.Option(min=1, max=1000, help="hospitals to divide it among")] = 3,
    division: Annotated[
        str, typer.Option(help="iid, source, skew[:SHARE], quantity[:RATIO] or dirichlet[:ALPHA]")
    ] = "iid",
    seed: Annotated[int, typer.Option(min=0, help="of the division")] = 1,
    inpaint: Annotated[
        Path | None, typer.Option(help="write a PNG of films before and after letters and markers are painted over")
    ] = None,
) -> None:
    """Show a set: its licence, what is in it, what filters would leave out, and a division among hospitals."""
    from participant.data.errors import DataError

    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        _show(name, root, sites, division, seed, inpaint, console)
    except (DataError, ValueError, OSError) as error:
        console.print(f"[bold red]failed:[/] {escape(str(error))}", highlight=False)
        raise typer.Exit(1) from None


def _show(
    name: str, root: Path | None, sites: int, division: str, seed: int, inpaint: Path | None, console: Console
) -> None:
    from simulation import datasets as d

    found = d.open_dataset(name, root)
    console.print(d.describe(found), markup=False, highlight=False, soft_wrap=True)
    clear = d.without_duplicates(d.without_ct_slices(d.without_laterals(found)))
    parts = d.divide(clear, sites, d.division_of(division), seed)
    for table in (d.sources(found), d.exclusions(clear), d.distribution(parts), d.patients(parts)):
        if table.rows:
            _print(table, console)
    if inpaint is not None:
        d.write_panel(_spread(clear), inpaint)
        console.print(f"{inpaint}: each film, what was found on it, and the film with that painted over")


def _spread(dataset: Dataset) -> list[Path]:
    """A few films from all over the set."""
    films = [row.path for row in dataset.rows if row.modality == "xray"]
    return films[:: -(-len(films) // PANEL) or 1]


def _print(table: Table, console: Console) -> None:
    from rich.table import Table as Shown

    shown = Shown(title=table.title, title_justify="left")
    for column, cell in zip(table.header, table.rows[0], strict=True):
        shown.add_column(column, justify="right" if isinstance(cell, int) else "left")
    for row in table.rows:
        shown.add_row(*(f"{cell:,}" if isinstance(cell, int) else cell for cell in row))
    console.print(shown)
