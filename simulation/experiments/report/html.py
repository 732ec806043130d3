"""The report as one HTML file that needs nothing else: style, pictures and all are in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import groupby

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from simulation.experiments.report.document import Cell, Estimate, Part, Picture, Published, Report, Table
from simulation.experiments.report.drawing import COLOURS, svg


def html_of(report: Report) -> str:
    """The page; it follows the reader's preference for light or dark."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cell": _cell, "svg": lambda picture: Markup(svg(picture.figure, picture.key))}  # noqa: S704 - our own
    template = environment.from_string(_text("report.html.j2"))
    style = Markup(f"{_colours()}\n{_text('report.css')}")  # noqa: S704 - our own
    sections = [
        (f"s{number}", section.title, list(_rows(section.parts))) for number, section in enumerate(report.sections, 1)
    ]
    return template.render(report=report, style=style, sections=[section for section in sections if section[2]])


def _rows(parts: Sequence[Part]) -> Iterator[tuple[str, list[Part]]]:
    """Parts in rows: neighbouring pictures stand side by side, all else by itself."""
    for kind, found in groupby(parts, _kind):
        together = list(found)
        yield from [(kind, together)] if kind == "gallery" else [(kind, [part]) for part in together]


def _kind(part: Part) -> str:
    if isinstance(part, Picture):
        return "picture" if part.wide else "gallery"
    return "table" if isinstance(part, Table) else "words"


def _cell(cell: Cell) -> Markup:
    if isinstance(cell, Estimate):
        interval = Markup("<small>{}</small>").format(cell.interval) if cell.interval else ""
        return Markup('<td class="number"><b>{}</b> {}</td>').format(cell.text, interval)
    if isinstance(cell, Published):
        return Markup('<td class="number published">{}</td>').format(cell.text)
    return Markup("<td>{}</td>").format(cell)


def _colours() -> str:
    light, dark = ("".join(f"--{name}:{pair[side]};" for name, pair in COLOURS.items()) for side in (0, 1))
    return f":root{{color-scheme:light dark;{light}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"


def _text(name: str) -> str:
    return (files("simulation.experiments.report") / name).read_text(encoding="utf-8")
