"""Pictures that are drawn once and fit a light page, a dark page and a PNG.

Every colour is named here. matplotlib draws in the light ones; in the SVG each is then replaced by a variable of the
page's style sheet, so that a picture changes with its page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

#: name: (on a light page, on a dark page)
COLOURS: dict[str, tuple[str, str]] = {
    "page": ("#f6f7f9", "#12171d"),
    "card": ("#fefefe", "#1a2129"),
    "text": ("#1b2430", "#e4e9ef"),
    "soft": ("#5a6675", "#9aa7b5"),
    "line": ("#dde2e8", "#2d3742"),
    "accent": ("#1d6f8f", "#5cb8da"),
    "series-1": ("#0b6e99", "#4fb3dc"),
    "series-2": ("#c2571a", "#f0955c"),
    "series-3": ("#2e8b57", "#63c88f"),
    "series-4": ("#8a4fa3", "#c794dc"),
    "series-5": ("#9c7a12", "#dcb945"),
    "series-6": ("#b0355f", "#ec83a6"),
}
SERIES = [light for name, (light, _) in COLOURS.items() if name.startswith("series")]
TEXT, SOFT, LINE, CARD, ACCENT = (COLOURS[name][0] for name in ("text", "soft", "line", "card", "accent"))
STYLE: Any = {  # typed no closer, as matplotlib's stubs list every name there is
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.titlecolor": TEXT,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": CARD,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "figure.facecolor": CARD,
    "legend.facecolor": CARD,
    "legend.edgecolor": LINE,
    "legend.fontsize": 8,
    "legend.labelcolor": TEXT,
    "text.color": TEXT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "svg.fonttype": "path",
    "svg.hashsalt": "pleura",
}
WIDTH, HEIGHT = 4.6, 3.3  # inches of one panel
DPI = 160
REM = 6.6  # an inch on a page, at most

#: For every function that draws: `@styled`.
styled = mpl.rc_context(STYLE)


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = WIDTH, height: float = HEIGHT
) -> tuple[Figure, Sequence[Axes]]:
    """An empty figure and its axes, row by row; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def colour(number: int) -> str:
    """The colour of a series; they repeat after six."""
    return SERIES[number % len(SERIES)]


def whole_numbers(axes: Axes) -> None:
    """The horizontal axis counts."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


@styled
def png(figure: Figure) -> bytes:
    return _saved(figure, "png")


@styled
def svg(figure: Figure, key: str) -> str:
    """As an element of a page, whose style sheet gives its colours; `key` keeps its ids apart from others'."""
    text = _saved(figure, "svg").decode("utf-8")
    element = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    widest = f' aria-hidden="true" style="max-width: {REM * figure.get_figwidth():.1f}rem"'
    element = re.sub(r' (?:width|height)="[\d.]+pt"', "", element, count=2).replace("<svg", f"<svg{widest}", 1)
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", element)
    for name, (light, _) in COLOURS.items():
        element = element.replace(light, f"var(--{name})")
    return element


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, metadata={"Date" if kind == "svg" else "Software": None})
    return buffer.getvalue()
