"""The report as Markdown, and its tables as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from simulation.experiments.report.document import Cell, Estimate, Part, Picture, Published, Report, Table


def markdown_of(report: Report, pictures: str | None = None) -> str:
    """GitHub's Markdown.

    Args:
        pictures: the folder beside it where the PNG files lie; without it there are tables and no pictures, some of
            which show patients' images.
    """
    return "\n\n".join(_blocks(report, pictures)) + "\n"


def _blocks(report: Report, pictures: str | None) -> Iterator[str]:
    yield f"# {report.title}"
    yield from report.lead
    yield _grid(["", ""], [[name, value] for name, value in report.facts])
    for section in report.sections:
        parts = [part for part in section.parts if pictures is not None or not isinstance(part, Picture)]
        if any(not isinstance(part, str) for part in parts):
            yield f"## {section.title}"
            for part in parts:
                yield from _part(part, pictures)


def _part(part: Part, pictures: str | None) -> Iterator[str]:
    if isinstance(part, Picture):
        yield f"**{part.title}**\n\n![{part.words}]({pictures}/{part.key}.png)"
    elif isinstance(part, Table):
        yield f"### {part.title}"
        yield _grid(part.head, [[_text(cell) for cell in row] for row in part.rows])
        if part.note:
            yield part.note
    else:
        yield part


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _text(cell: Cell) -> str:
    if isinstance(cell, Estimate):
        return f"**{cell.text}** ({cell.interval})" if cell.interval else f"**{cell.text}**"
    return f"*{cell.text}*" if isinstance(cell, Published) else cell


def csv_of(table: Table) -> str:
    """For machines: an estimate takes three columns, its mean and the ends of its interval, in the head's unit."""
    columns = list(zip(*table.rows, strict=True)) or [() for _ in table.head]
    wide = [any(isinstance(cell, Estimate) for cell in column) for column in columns]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([name for title, three in zip(table.head, wide, strict=True) for name in _names(title, three)])
    for row in table.rows:
        writer.writerow([text for cell, three in zip(row, wide, strict=True) for text in _values(cell, three)])
    return buffer.getvalue()


def _names(title: str, three: bool) -> list[str]:
    return [title, f"{title} low", f"{title} high"] if three else [title]


def _values(cell: Cell, three: bool) -> list[str]:
    if isinstance(cell, Estimate):
        return ["" if value is None else f"{value:.6g}" for value in cell.scaled]
    return [cell if isinstance(cell, str) else cell.text, *([""] * 2 if three else [])]
