"""What was trained on: where the cases are from, how they are spread, who the patients are, what was left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imread

from simulation.experiments.report.document import Part, Picture, Section, Table
from simulation.experiments.report.drawing import colour, new_figure, styled

Sheet = Mapping[str, Any]
"""The content of a cohort's data.json: `words`, `warning`, and `tables` of {title, header, rows}."""

DISTRIBUTION = "Data distribution"


def read_sheet(path: Path) -> Sheet | None:
    """A cohort's sheet, or None where its hospitals were not made yet."""
    sheet: Sheet | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return sheet


def section(sheets: Mapping[str, Sheet], panel: Path | None = None) -> Section:
    """Of each of the experiment's data by name, at the first seed."""
    parts = [part for name, sheet in sheets.items() for part in _parts(name, sheet)]
    shown = [_panel(panel)] if panel is not None and panel.exists() else []
    return Section("Data, at the first seed", [*shown, *parts])


def _parts(name: str, sheet: Sheet) -> Iterator[Part]:
    yield f"{name}: {'. '.join(sheet['words'].splitlines())}"
    tables = {table["title"]: table for table in sheet["tables"]}
    if DISTRIBUTION in tables:
        yield _picture(name, tables[DISTRIBUTION])
    for number, table in enumerate(table for table in tables.values() if table["rows"]):
        rows = [[_text(cell) for cell in row] for row in table["rows"]]
        yield Table(f"data-{name}-{number + 1}", f"{name}: {table['title'].lower()}", table["header"], rows)


def _text(cell: str | int) -> str:
    return f"{cell:,}" if isinstance(cell, int) else cell


@styled
def _panel(path: Path) -> Picture:
    pixels = imread(path)
    height, width = pixels.shape[:2]
    figure, (axes,) = new_figure(width=9, height=9 * height / width)
    axes.imshow(pixels)
    axes.set_axis_off()
    words = "Films as they are, with what was found in red, and after it was painted over"
    return Picture("marks", "Letters and markers, before and after", figure, words, wide=True)


@styled
def _picture(name: str, table: Mapping[str, Any]) -> Picture:
    """Stacked bars: training cases of each class at each hospital."""
    classes: Sequence[str] = table["header"][2:-2]
    rows = [row for row in table["rows"] if row[1] == "train"]
    sites = [row[0] for row in rows]
    figure, (axes,) = new_figure(height=1.1 + 0.32 * len(sites))
    left = np.zeros(len(sites))
    for number, label in enumerate(classes):
        counts = np.array([row[2 + number] for row in rows], float)
        axes.barh(sites, counts, left=left, color=colour(number), label=label, height=0.7)
        left += counts
    axes.invert_yaxis()
    axes.set(xlabel="training cases")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.45 / figure.get_figheight() * 1.6), ncols=4, frameon=False)
    words = "; ".join(f"{row[0]} {sum(row[2:-2])}" for row in rows)
    return Picture(f"data-{name}", f"{name}: training cases of each hospital", figure, f"Training cases: {words}")
