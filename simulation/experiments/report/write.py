"""Writing a report into a folder that can be shared as it is."""

from __future__ import annotations

from pathlib import Path

from simulation.experiments.report.document import Report
from simulation.experiments.report.drawing import png
from simulation.experiments.report.html import html_of
from simulation.experiments.report.plain import csv_of, markdown_of

PAGE, TEXT, TABLES = "report.html", "report.md", "tables.md"


def write_report(report: Report, folder: Path) -> Path:
    """report.html (all in one), report.md with pictures/*.png, tables.md without any, and tables/*.csv.

    Returns the page.

    Raises:
        ValueError: two tables or two pictures of one key.
    """
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    (folder / "pictures").mkdir(exist_ok=True)
    _check_distinct([table.key for table in report.tables])
    _check_distinct([picture.key for picture in report.pictures])
    for table in report.tables:
        (folder / "tables" / f"{table.key}.csv").write_text(csv_of(table), encoding="utf-8")
    for picture in report.pictures:
        (folder / "pictures" / f"{picture.key}.png").write_bytes(png(picture.figure))
    (folder / TEXT).write_text(markdown_of(report, "pictures"), encoding="utf-8")
    (folder / TABLES).write_text(markdown_of(report), encoding="utf-8")
    page = folder / PAGE
    page.write_text(html_of(report), encoding="utf-8")
    return page


def _check_distinct(keys: list[str]) -> None:
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"these keys are used twice, and each names one file: {', '.join(sorted(twice))}")
