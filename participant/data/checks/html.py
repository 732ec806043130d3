"""A report as a page that needs nothing else, or as a part of another page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from participant.data.cases import SPLITS
from participant.data.checks.drawing import histogram
from participant.data.checks.report import PICTURED, ClassCount, Histogram, Report

_TEMPLATES: Final = Path(__file__).parent / "templates"
_SHOWN: Final = 12  # cases of a class with a picture
_LISTED: Final = 1000  # rows of the last table


def render_fragment(report: Report) -> str:
    """The report inside one <div class="data-report">: no script, no style, nothing to load but pictures as data URIs.

    Its headings start at h2. A page that shows it has `stylesheet()` too, which touches nothing else of the page.
    """
    return _environment.get_template("report.html.j2").render(
        report=report,
        splits=SPLITS,
        shown=PICTURED,
        listed=_LISTED,
        pictures=_by_class(report),
        histograms=[
            (each, histogram(each, report.edges, _top(report.histograms), report.modality))
            for each in report.histograms
        ],
    )


def render_page(report: Report) -> str:
    """A whole page in one file; it follows the reader's preference for light or dark."""
    fragment, style = Markup(render_fragment(report)), Markup(stylesheet())  # noqa: S704 - escaped, and our own
    return _environment.get_template("page.html.j2").render(report=report, fragment=fragment, style=style)


def stylesheet() -> str:
    """What `render_fragment` needs; each rule is for what is within .data-report."""
    return (_TEMPLATES / "report.css").read_text("utf-8")


def _by_class(report: Report) -> list[tuple[str, list[str]]]:
    """Cases with a picture, evenly from each class."""
    chosen = []
    for label in report.classes:
        own = [row.name for row in report.cases if row.label == label and row.name in report.thumbnails]
        places = np.linspace(0, len(own) - 1, min(_SHOWN, len(own))).astype(int) if own else ()
        chosen.append((label, [own[place] for place in places]))
    return chosen


def _top(histograms: Iterable[Histogram]) -> float:
    """The highest share that is drawn in full, for all classes alike: the first and last bin hold what lies outside,
    and in CTs the air around the patient."""
    inner = [value for each in histograms for value in each.high[2:-2]]
    return max(inner, default=1.0) * 1.05 or 1.0


def _total(count: ClassCount) -> str:
    cases, patients = sum(count.cases.values()), sum(count.patients.values())
    return f"{cases} ({patients})"


def _breakable(name: str) -> Markup:
    """A case's name that may go on in the next line where a folder ends."""
    return escape(name).replace("/", Markup("/<wbr>"))


_environment: Final = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {"total": _total, "breakable": _breakable}
